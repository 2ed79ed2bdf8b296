"""Nouns by topic, as data. A program or a story takes its nouns from one topic, so that the words of
a sample belong together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic. `numbers` holds the singular and plural of things that are counted or measured, `texts`
    of things that have a name, and `things` of things that are bought and shared.
    """

    numbers: tuple[tuple[str, str], ...]
    texts: tuple[tuple[str, str], ...]
    things: tuple[tuple[str, str], ...]
    samples: tuple[str, ...]


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    """Return `price box/boxes` -> (("price", "prices"), ("box", "boxes"))."""
    words = [word.partition("/") for word in text.split()]
    return tuple((one, many or f"{one}s") for one, _, many in words)


def _topic(numbers: str, texts: str, things: str, samples: str) -> Topic:
    return Topic(_pairs(numbers), _pairs(texts), _pairs(things), tuple(samples.split()))


TOPICS: Mapping[str, Topic] = {
    "shop": _topic(
        "price discount quantity/quantities total cost",
        "label product brand coupon",
        "pencil notebook mug scarf/scarves lamp basket candle",
        "tea coffee rice soap bread Sugar salt honey jam Level milk oats noon",
    ),
    "school": _topic(
        "score grade mark credit age",
        "pupil subject teacher lesson",
        "eraser ruler book badge sticker folder poster",
        "Ada Otto Bob maths art music Hannah latin civic chess Eve drama",
    ),
    "garden": _topic(
        "height depth harvest age weight",
        "plant seed herb flower",
        "tulip carrot tomato/tomatoes pumpkin shrub pot bulb",
        "rose mint basil Thyme fern ivy tulip daisy kale leek Sage radar",
    ),
    "weather": _topic(
        "reading temperature gust pressure level",
        "station city/cities region cloud",
        "sensor umbrella balloon gauge map kite flag",
        "Oslo rain sun fog Lima hail storm Paris wind snow Kyoto civic",
    ),
    "network": _topic(
        "port latency/latencies packet_size retry/retries timeout",
        "host route token header",
        "router cable switch/switches server antenna rack adapter",
        "alpha beta gamma Edge core proxy cache node relay rotor mesh hub",
    ),
    "library": _topic(
        "page year copy/copies shelf_number due_day",
        "title author genre keyword",
        "novel atlas/atlases comic diary/diaries journal guide poem",
        "Emma Dune poetry Ulysses history Essays fable maps myth refer Walden logic",
    ),
    "sport": _topic(
        "lap distance goal point rank",
        "player team club coach/coaches",
        "ball racket medal whistle jersey trophy/trophies ticket",
        "Lions hawks Bears eagles Anna wolves Tigers Ravens kayak stars rovers united",
    ),
    "kitchen": _topic(
        "weight calorie minute portion dose",
        "dish/dishes spice recipe tool",
        "egg apple muffin pear jar plate cookie",
        "soup Pasta salad chili pepper stew curry Pie basil cumin wok deed",
    ),
    "factory": _topic(
        "batch_size defect speed duration weight",
        "machine part order shift",
        "bolt gear spring valve crate bearing wheel",
        "lathe Press drill robot mill Welder belt pump saw motor forge rotator",
    ),
    "travel": _topic(
        "mile fare delay stop altitude",
        "airport traveller train country/countries",
        "stamp postcard backpack magnet guidebook souvenir tent",
        "Rome Cairo Delhi Quito Bern Lagos Seoul Sydney Dakar Lhasa Omaha noon",
    ),
    "energy": _topic(
        "load voltage output demand current",
        "grid plant turbine meter",
        "battery/batteries bulb panel fuse charger cell lantern",
        "solar Wind hydro coal gas tidal Atom north south west level peak",
    ),
    "music": _topic(
        "tempo/tempos beat duration pitch/pitches volume",
        "song artist chord album",
        "guitar drum flute record violin poster ticket",
        "jazz Blues rock folk Opera waltz tango Anna hymn rap disco noon",
    ),
}  # fmt: skip

_PEOPLE = """
    Ada Ben Chloe Daniel Elif Farid Grace Hugo Ines Jonas Kavya Leo Mina Nora Omar Priya Quinn
    Rosa Sam Tara Uma Victor Wanda Yusuf Zoe Amara Bjorn Carmen Dmitri Esther Felix Gita Hana
    Ivan Julia Kofi Lena Marco Nadia Olga Pablo Rania Sven Tomas
"""
_PLACES = "shop market school library workshop museum station club studio farm bakery office"
PEOPLE, PLACES = tuple(_PEOPLE.split()), tuple(_PLACES.split())
CONTAINERS = _pairs("box/boxes bag crate basket carton drawer tray packet bundle shelf/shelves")
LETTERS = "abcdefghiklmnoprstuw"
