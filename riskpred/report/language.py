"""The languages of a report: catalogue of texts, locale of dates and numbers, tag of the page.

English texts stand in the code and in the templates; every other language has a folder of gettext catalogues
(`locale/zh/*.po`) that are read when a report is made. In Python a text is marked by the function it goes through:
`say`, `say_count`, or `text` where it is only kept for later; in a template by `{% trans %}`. A test fails when one of
them has no translation. Placeholders are named and written `%(name)s`; a percent sign is `%%`.
"""

import gettext
import io
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

from babel import Locale
from babel.dates import format_date
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal

LANGUAGES = {"en": ("en", "d MMM y"), "zh": ("zh-Hans", "y年M月d日")}
"""Language -> its tag in HTML, and how it writes a day (CLDR pattern)."""
CATALOGUES = Path(__file__).parent / "locale"


@dataclass(frozen=True)
class Language:
    """One language. tag: for `<html lang>`; translations: what Jinja and `say` look texts up in."""

    code: str
    tag: str
    locale: Locale
    translations: gettext.NullTranslations
    day: str

    def say(self, message: str, **values: object) -> str:
        """`message` in this language with its placeholders filled; values are taken as they are."""
        return self.translations.gettext(message) % values

    def say_count(self, one: str, many: str, n: int, **values: object) -> str:
        """As `say`, in the form that goes with `n`, which stands in the text as %(n)s."""
        return self.translations.ngettext(one, many, n) % {"n": self.integer(n), **values}

    def known(self, data: str) -> str:
        """A text that came with the data: its translation where it is one we know, else as it stands."""
        return self.translations.gettext(data) if data else data

    def integer(self, n: int) -> str:
        """14000 -> "14,000"."""
        return str(format_decimal(n, locale=self.locale))

    def decimal(self, digits: str) -> str:
        """Digits rounded by the caller, "9.10", with the locale's decimal sign and no grouping."""
        return digits.replace(".", self.locale.number_symbols["latn"]["decimal"])

    def date(self, moment: datetime) -> str:
        """A day as this language writes it; it does not break at a line's end."""
        return str(format_date(moment, self.day, locale=self.locale)).replace(" ", "\u00a0")


@cache
def language(code: str) -> Language:
    """The language of `code`, one of LANGUAGES."""
    tag, day = LANGUAGES[code]
    translations = gettext.NullTranslations() if code == "en" else _translations(code)
    return Language(code, tag, Locale.parse(tag, sep="-"), translations, day)


def catalogue(code: str) -> Catalog:
    """All texts of a language in one catalogue; a text that stands in two files must read the same in both."""
    merged = Catalog(locale=code)
    for path in sorted((CATALOGUES / code).glob("*.po")):
        with path.open("rb") as stream:
            for message in read_po(stream, locale=code, abort_invalid=True):
                if message.id:
                    before = merged.get(message.id)
                    assert before is None or before.string == message.string, f"{path.name}: {message.id!r}"
                    merged[message.id] = message
    return merged


def text(message: str) -> str:
    """Marks a text that is kept in a table and said later."""
    return message


def _translations(code: str) -> gettext.GNUTranslations:
    compiled = io.BytesIO()
    write_mo(compiled, catalogue(code))
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)
