"""What a picture says of how it was made: IPTC's source type in XMP, for programs that look for it.

https://www.iptc.org/std/photometadata/documentation/userguide/#_digital_source_type
"""

from __future__ import annotations

from xml.sax.saxutils import escape

from PIL.PngImagePlugin import PngInfo

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""Of media that a trained model made."""
COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""Of media a part of which a trained model made."""
XMP_KEY = "XML:com.adobe.xmp"
"""Of the text chunk that holds it in PNG."""
_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
<Iptc4xmpExt:DigitalSourceType>{source}</Iptc4xmpExt:DigitalSourceType>
<xmp:CreatorTool>{tool}</xmp:CreatorTool>
<dc:description><rdf:Alt>
<rdf:li xml:lang="x-default">{description}</rdf:li>
</rdf:Alt></dc:description>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


def xmp(source: str, tool: str, description: str) -> str:
    """The XMP packet that says so.

    Args:
        source: `SOURCE_TYPE` or `COMPOSITE`.
    """
    return _XMP.format(source=source, tool=escape(tool), description=escape(description))


def png_marks(source: str, tool: str, facts: dict[str, str]) -> PngInfo:
    """The same as PNG's text chunks, and the facts by name; one is called "Description"."""
    info = PngInfo()
    for name, text in facts.items():
        info.add_text(name, text)
    others = (f"{name}: {text}" for name, text in facts.items() if name != "Description")
    info.add_itxt(XMP_KEY, xmp(source, tool, f"{facts['Description']} {'; '.join(others)}"))
    return info
