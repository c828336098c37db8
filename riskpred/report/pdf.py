"""A page as a PDF, through WeasyPrint (extra `pdf`), which is loaded only when a PDF is asked for.

The PDF is the page as it prints. WeasyPrint draws an inline SVG by the style that stands within it, so the charts carry
theirs; a link to another page of the report leads nowhere from a PDF and is text. Nothing is fetched.
"""

import ctypes
import importlib.util
import logging
import re
from collections.abc import Callable
from pathlib import Path

from riskpred.errors import UsageError

SIZES = (7.4, 7.0, 6.6)
"""Font sizes in points, that of style.css first: a page that says more is set smaller before it takes a third sheet."""
MOST_PAGES = 2
_CHINESE = {"zh": b":lang=zh-cn"}
"""Languages that need a font of their own -> what such a font says it can write."""
_SVG = re.compile(r"<svg [^>]*>")
_LINK = re.compile(r'<a [^>]*href="[^"#][^"]*"[^>]*>|</a>')


def printer(lang: str, mark: str) -> Callable[[str], bytes]:
    """What turns the HTML of a page in this language into the bytes of its PDF.

    Args: mark: a comment at the end of the file, by which a PDF of ours is known.
    Raises: UsageError, when WeasyPrint or its libraries are not there, or no font that can write the language is.
    """
    if importlib.util.find_spec("weasyprint") is None:
        raise UsageError(
            "--pdf: WeasyPrint is not installed.",
            wanted="the extra `pdf`",
            do="pip install 'riskpred[pdf]', or print the pages from a browser",
        )
    # Its warnings name what stands on a page, and a page is a patient's.
    for name in ("weasyprint", "fontTools"):
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False
    try:
        import weasyprint
        from weasyprint.urls import URLFetcher
    except OSError:
        raise UsageError(
            "--pdf: WeasyPrint is installed, but not the libraries that it draws with.",
            wanted="Pango (Debian: libpango-1.0-0, libpangoft2-1.0-0, libharfbuzz-subset0)",
            do="install it, or print the pages from a browser",
        ) from None
    logging.getLogger("weasyprint").setLevel(logging.CRITICAL)
    if lang in _CHINESE and not has_font(_CHINESE[lang]):
        raise UsageError(
            f"--pdf --lang {lang}: no font on this machine can write Chinese: the pages would show boxes.",
            wanted="a font that fontconfig lists for zh-cn (`fc-list :lang=zh-cn`)",
            do="install one (Debian: fonts-noto-cjk or fonts-wqy-microhei), or print the pages from a browser",
        )
    style = f"<style>{(Path(__file__).parent / 'templates' / 'charts.css').read_text(encoding='utf-8')}</style>"

    def make(html: str) -> bytes:
        styled = _LINK.sub("", _SVG.sub(lambda found: found[0] + style, html))
        fetcher = URLFetcher(allowed_protocols={"data"})
        for size in SIZES:
            sized = styled.replace("</head>", f"<style>@media print{{html{{font-size:{size}pt}}}}</style></head>", 1)
            document = weasyprint.HTML(string=sized, url_fetcher=fetcher).render(pdf_tags=True)
            if len(document.pages) <= MOST_PAGES:
                break
        made = document.write_pdf(pdf_tags=True)
        assert isinstance(made, bytes)
        return made + f"% {mark}\n".encode()

    return make


def has_font(pattern: bytes) -> bool:
    """Whether fontconfig, by which WeasyPrint finds fonts, knows one that fits `pattern`."""
    library = ctypes.CDLL("libfontconfig.so.1")
    for name in ("FcNameParse", "FcObjectSetCreate", "FcFontList"):
        getattr(library, name).restype = ctypes.c_void_p
    asked, nothing = library.FcNameParse(pattern), library.FcObjectSetCreate()
    library.FcFontList.argtypes = [ctypes.c_void_p] * 3
    found = library.FcFontList(None, asked, nothing)
    number: int = ctypes.cast(found, ctypes.POINTER(ctypes.c_int))[0]  # FcFontSet begins with how many it holds
    for free, pointer in (("FcFontSetDestroy", found), ("FcObjectSetDestroy", nothing), ("FcPatternDestroy", asked)):
        getattr(library, free).argtypes = [ctypes.c_void_p]
        getattr(library, free)(pointer)
    return number > 0
