"""Prediction beside other programs, for bench.py: how fast on one core, what leaks and what is invented."""

import time
from collections.abc import Callable, Sequence

import numpy as np

from pii.corpus.store import Rows
from pii.scoring.metrics import covered

Finder = Callable[[list[str], str], list]  # texts and their language → of each text, spans with a start and an end


def bench_peers(rows: Rows, finders: dict[str, Finder], rounds: int) -> dict[str, dict]:
    """Name and language → documents a second of one core, leakage and character precision, whatever the labels are.

    A core's seconds are processor time, of all threads: neither a busy machine nor several cores change them.
    """
    texts, report = rows.texts(), {}
    gold_of = spans_by_text(rows.spans, rows.span_counts)
    print(f"{'':<46}{'documents/s':>12}{'leakage':>9}{'precision':>11}   (of one core; of characters)")
    for language in sorted({*rows.languages.tolist()}):
        chosen = np.flatnonzero(rows.languages == language)
        own, gold = [texts[i] for i in chosen], [gold_of[i] for i in chosen]
        for name, find in finders.items():
            try:
                find(own[:1], language)  # models are loaded
            except LookupError as error:
                print(f"{f'{name}, {language}':<46}not measured ({error.args[0]})")
                continue
            seconds, found = [], []
            for _ in range(rounds):
                started = time.process_time()
                found = find(own, language)
                seconds.append(time.process_time() - started)
            leakage, precision = character_figures(own, gold, [[(s.start, s.end) for s in spans] for spans in found])
            speed = len(own) / max(1e-9, float(np.median(seconds)))
            report[f"{name}, {language}"] = {"speed": speed, "leakage": leakage, "precision": precision}
            print(f"{f'{name}, {len(own)} {language}':<46}{speed:>12.1f}{leakage:>9.3f}{precision:>11.3f}")
    return report


def spans_by_text(spans: np.ndarray, counts: np.ndarray) -> list[list[tuple[int, int]]]:
    """[spans, 3] start, end and label id, [texts] how many of them each has → start and end of each text's."""
    return [[(int(start), int(end)) for start, end, _ in own] for own in np.split(spans, np.cumsum(counts)[:-1])]


def character_figures(
    texts: list[str], gold: Sequence[Sequence[tuple[int, int]]], found: Sequence[Sequence[tuple[int, int]]]
) -> tuple[float, float]:
    """The share of gold characters that nothing found covers, and the share of covered characters that are gold."""
    counts = np.zeros((2, 2), np.int64)  # gold?, found?
    for text, *both in zip(texts, gold, found, strict=True):
        is_gold, is_found = (covered(np.array(spans, np.int64).reshape(-1, 2), len(text)) for spans in both)
        np.add.at(counts, (is_gold.astype(int), is_found.astype(int)), 1)
    return float(counts[1, 0] / max(1, counts[1].sum())), float(counts[1, 1] / max(1, counts[:, 1].sum()))


def presidio() -> dict[str, Finder]:
    """presidio-analyzer with the first spaCy model of a text's language, where they are installed."""
    try:
        import spacy.util
        import tldextract.tldextract
        from presidio_analyzer import AnalyzerEngine, BatchAnalyzerEngine
        from presidio_analyzer.nlp_engine import NlpEngineProvider
    except ImportError:
        print("presidio-analyzer: not measured (pip install presidio-analyzer and a spaCy model)")
        return {}
    tldextract.tldextract.TLD_EXTRACTOR.suffix_list_urls = ()  # or it asks the network, and waits where there is none
    engines: dict[str, BatchAnalyzerEngine] = {}

    def find(texts: list[str], language: str) -> list:
        if language not in engines:
            models = sorted(name for name in spacy.util.get_installed_models() if name.startswith(f"{language}_"))
            if not models:
                raise LookupError(f"no spaCy model of the language {language} is installed")
            model = [{"lang_code": language, "model_name": models[0]}]
            nlp = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": model}).create_engine()
            analyzer = AnalyzerEngine(nlp_engine=nlp, supported_languages=[language])
            engines[language] = BatchAnalyzerEngine(analyzer_engine=analyzer)
        return list(engines[language].analyze_iterator(texts, language=language, batch_size=64))

    return {"presidio-analyzer": find}
