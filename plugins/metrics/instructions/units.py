"""What the checks count: sentences, words, and the language of a text. Offline, and the same on every machine.

The official script of IFEval counts with NLTK's English sentence model, which has to be downloaded, and asks
langdetect, which draws at random. Here NLTK's own algorithm runs on the part of that model that decides for running
text (its abbreviations, its sentence openers, and common words of the 20,000 whose use of capitals it has counted), and
langdetect always draws the same.
"""

from __future__ import annotations

import functools
import re
from typing import Any

# Punkt's English model (`punkt_tab/english`): what ends in a full stop and is an abbreviation.
_ABBREVIATIONS = """
a.a a.c a.d a.g a.h a.m a.m.e a.s a.t adm ala ariz aug ave b.f b.v bros c c.i.t c.o.m.b c.v calif chg cie co col colo
conn corp cos ct d d.c d.h d.w dec dr e e.f e.h e.l e.m f f.g f.j feb fla fri ft g g.d g.f g.k ga gen h h.c h.f h.m
i.m.s ill inc j.b j.c j.j j.k j.p j.r jan jr k kan ky l l.a l.f l.p lt ltd m m.b.a m.d.c m.j maj messrs mg mich minn
mr mrs ms n n.c n.d n.h n.j n.m n.v n.y nev nov oct ok okla ore p p.a.m p.m pa ph.d prof r r.a r.h r.i r.j r.k r.t rep
reps s s.a s.a.y s.c s.g s.p.a s.s sen sep sept sr st sw t t.j tenn tues u.k u.n u.s u.s.a u.s.s.r v va vs vt w w.c
w.r w.va w.w wash wed wis yr
"""
# Words that start a sentence so often that one does, after an abbreviation, where they are capitalised.
_OPENERS = """
according although among both but despite even he however i if in indeed instead it many meanwhile moreover most
nevertheless nonetheless nor sales separately similarly since so some the there these they this though thus under when
while yet
"""
# After "5." in front of them no sentence ends, nor after the others' first word.
_AFTER_NUMBERS = """
abreast aes business cbot colgate commodities cooper corrections credit dividend financing genentech henley insider
international leisure letters notable pay-fone pegasus pepper review rj wedgestone who zimmer
"""
_PAIRS = "b.edelman b.levine b.smith b.stewart b.wigton i.magnin i.toussie j.aron j.fialka j.walter o.ludcke"
# Common words that the model has seen in small letters, and capitalised only where a sentence starts.
_NEVER_NAMES = """
above accordingly admittedly afterward afterwards almost along already always anybody anyone anything anyway apparently
ask asked become behind being believe besides better between beyond call cannot certainly choose consider considered
create currently does doing earlier early either enjoy enough especially eventually examples explore finally follow
following formerly furthermore given hence her here hers herself him himself historically ideally imagine important
including indeed initially inside instead into lately learn likewise looking moreover naturally neither nevertheless
nonetheless nor normally note nothing nowhere originally otherwise overall particularly please possibly presumably
previously probably put rarely recently regardless remember same seldom similarly simply so somehow someone sometimes
soon specifically still subsequently such suddenly surely thank thanks them thereafter therefore things think though
through throughout thus together tomorrow traditionally truly try typically ultimately unfortunately unless unlike upon
us using various very were whenever whereas wherever whether which within without yes yesterday yet your
"""
# Common words that it has seen in small letters, and capitalised in names.
_ALSO_NAMES = """
a about actually again all also although am among an and another answer any are around art as at based be because
becomes before below best big black book both bring business but by can cats children city clearly come company
country day despite did do don during each energy even every everybody everyone everything family few find first food
for from generally get give go good government great had has have having he health help high his history home how
however if in is it its just keep know last law let life like long love low made make making man many market may maybe
me meanwhile money more most much music must my never new next no nobody none not now obviously of off often old on
once one only or other others our out outside over peace people perhaps power quite rather read school science see
several she should since small some something start state student take technology tell than that the their then there
these they this those time to today too two under understanding until up use usually war was water we well what when
where while white who whose why will with woman wonder work world would write you young
"""
_SMALL, _CAPITAL = 32, 4  # Punkt's flags for a word seen so within a sentence
_NUMBER = "##number##"  # how Punkt writes any number


@functools.cache
def _punkt() -> Any:
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    parameters = PunktParameters()
    parameters.abbrev_types = {*_ABBREVIATIONS.split(), ". ."}
    parameters.sent_starters = set(_OPENERS.split())
    parameters.collocations = {(_NUMBER, word) for word in _AFTER_NUMBERS.split()} | {
        (first, second) for first, second in (pair.split(".") for pair in _PAIRS.split())
    }
    parameters.ortho_context.update(dict.fromkeys(_NEVER_NAMES.split(), _SMALL))
    parameters.ortho_context.update(dict.fromkeys(_ALSO_NAMES.split(), _SMALL | _CAPITAL))
    return PunktSentenceTokenizer(parameters)


def sentences(text: str) -> list[str]:
    """The sentences of an English text, as NLTK's Punkt splits them."""
    return [str(sentence) for sentence in _punkt().tokenize(text)]


def tokens(text: str) -> list[str]:
    """NLTK's `word_tokenize`: words and marks of an English text, sentence by sentence."""
    from nltk.tokenize.destructive import NLTKWordTokenizer

    tokenizer = NLTKWordTokenizer()
    return [str(token) for sentence in sentences(text) for token in tokenizer.tokenize(sentence)]


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores."""
    return re.findall(r"\w+", text)


@functools.cache
def _languages() -> Any:
    from langdetect.detector_factory import PROFILES_DIRECTORY, DetectorFactory

    factory = DetectorFactory()
    factory.load_profile(PROFILES_DIRECTORY)
    factory.seed = 0  # its detectors draw parts of a text at random; these always draw the same
    return factory


@functools.lru_cache(maxsize=1024)
def language_of(text: str) -> str | None:
    """The language of a text by langdetect: an ISO 639-1 code, or zh-cn or zh-tw. None where there are no letters."""
    from langdetect.lang_detect_exception import LangDetectException

    detector = _languages().create()
    detector.append(text)
    try:
        return str(detector.detect())
    except LangDetectException:
        return None
