# The page for visitors, or any other command; docs/deploy.md says how to run it.
FROM python:3.12-slim

# Which of PyTorch's builds: cpu, or one for a CUDA, such as cu130. pip would take gigabytes of CUDA
# on Linux; uv knows where the others are.
ARG TORCH=cpu
ARG EXTRAS="evaluate"

WORKDIR /app
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY align align
COPY stylegan stylegan
COPY pulse pulse
COPY examples examples
RUN pip install --no-cache-dir uv \
    && uv pip install --system --no-cache --torch-backend "$TORCH" -c constraints.txt ".[$EXTRAS]" \
    && pip uninstall --yes uv \
    && rm -rf /app/*

RUN useradd --create-home --uid 1000 pulse && mkdir /cache && chown pulse /cache
USER pulse
WORKDIR /home/pulse
ENV PULSE_HOME=/cache GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT=7860 PYTHONUNBUFFERED=1
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=10s --start-period=90s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['GRADIO_SERVER_PORT'], timeout=8)"]
ENTRYPOINT ["pulse"]
CMD ["web"]
