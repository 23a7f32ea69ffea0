"""What runs in the visitor's browser. The keyboard works as buttons do."""

# A click on a card; only one of the faces found so far is the chosen one.
CHOOSE = """
element.addEventListener('click', (event) => {
    const card = event.target.closest('[data-choice]');
    if (!card) return;
    (element.closest('#results') || element).querySelectorAll('[data-choice]').forEach(
        (other) => other.setAttribute('aria-pressed', other === card));
    trigger('select', {index: Number(card.dataset.choice)});
});
"""
# The slider between two pictures, and the picture alone over all of the window.
SLIDE = """
element.addEventListener('input', (event) => {
    event.target.parentElement.style.setProperty('--at', event.target.value + '%');
});
element.addEventListener('click', (event) => {
    const dialog = element.querySelector('dialog');
    if (event.target.closest('[data-open]')) dialog.showModal();
    else if (event.target.closest('dialog')) dialog.close();
});
"""
# Copies the command beside the button. A page that is not served securely has no clipboard.
COPY = """
element.addEventListener('click', async (event) => {
    const button = event.target.closest('[data-copy]');
    if (!button) return;
    const code = element.querySelector('code');
    getSelection().selectAllChildren(code);
    if (navigator.clipboard) await navigator.clipboard.writeText(code.textContent);
    else document.execCommand('copy');
    button.textContent = 'Copied';
});
"""
# On a phone the faces may be below what is seen.
SCROLL = """
() => document.querySelector('#status').scrollIntoView({behavior: 'smooth', block: 'nearest'})
"""
