"""A run as a folder that plain transformers loads: `python predict.py --run RUN --export FOLDER`."""

import inspect
import json
from pathlib import Path
from string import punctuation
from unicodedata import category

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForTokenClassification, PreTrainedTokenizerFast
from transformers.integrations.mistral import MistralConverter

from pii.common import UserError
from pii.corpus import tekken
from pii.decoder.joint import separate_projections
from pii.decoder.precision import QUANTISED
from pii.heads.heads import DOCUMENTED, DocumentedHead
from pii.heads.tagging import Tagger
from pii.outputs import atomic_folder, check_output, check_unicode, write_json
from pii.training.run_config import choose_head, read_config
from pii.training.runs import load_run

EVALUATION = "evaluation.json"  # in the run folder: evaluate.py --json; its figures go into the model card
MARK = "export.json"


def export_run(run: Path, folder: Path, head: str | None = None, backbone: str | None = None) -> None:
    """Write a documented head of a run and its backbone as a token classification model with a fast tokenizer.

    The head is the run's best one if that is documented, else the first that is, unless `head` names another;
    `backbone` says where the backbone is now, if it is not where it was in training. Raises UserError.

    `AutoModelForTokenClassification.from_pretrained(folder)` and `pipeline("token-classification",
    aggregation_strategy="simple")` then find the spans that predict.py finds in texts of at most max_length tokens,
    but for what predict.py trims at a span's edges and widens to whole words: the model card has code for that.
    """
    check_output(folder, MARK)
    check_unicode(folder)
    config = read_config(run)
    head = choose_documented(config, run, head)
    if (precision := config["backbone"]["precision"]) in QUANTISED:
        raise UserError(
            f"{run} has an {precision} backbone, which transformers cannot load: train with --precision bf16"
        )
    tagger, _ = load_run(run, torch.device("cpu"), head, backbone)
    with atomic_folder(folder, MARK) as temporary:
        as_transformers(tagger, config["labels"]).save_pretrained(temporary)
        fast_tokenizer().save_pretrained(temporary)
        (temporary / "README.md").write_text(model_card(run, config, head), encoding="utf-8")
        mark = {"labels": len(config["labels"]), "tokenizer": config["tokenizer"], "backbone": config["backbone"]}
        write_json(temporary / MARK, mark)
    print(f'wrote {folder}: pipeline("token-classification", "{folder}", aggregation_strategy="simple")')


def choose_documented(config: dict, run: Path, head: str | None) -> str:
    """The head to export. Raises UserError where it is of a kind that transformers has no class for."""
    documented = [name for name, entry in config["heads"].items() if entry["kind"] == DOCUMENTED]
    if not documented:
        raise UserError(f"{run} has no {DOCUMENTED} head: transformers has no class for the others")
    if head is None:
        return config["best"] if config["best"] in documented else documented[0]
    if choose_head(config, run, head) not in documented:
        raise UserError(f"transformers has no class for {head}: export --head {documented[0]}")
    return head


def as_transformers(tagger: Tagger, labels: list[str]):
    """The same weights in transformers' own class for this kind of backbone."""
    config = AutoConfig.from_pretrained(tagger.reader.backbone.config.name_or_path)
    config.id2label, config.label2id = dict(enumerate(labels)), {label: i for i, label in enumerate(labels)}
    config.dtype = tagger.reader.backbone.dtype
    assert isinstance(tagger.head, DocumentedHead)
    with torch.device("meta"):
        exported = AutoModelForTokenClassification.from_config(config)
    separate_projections(tagger.reader.backbone)
    exported.model = tagger.reader.backbone
    exported.score = nn.Linear(tagger.head.in_features, tagger.head.out_features)
    exported.score.load_state_dict(tagger.head.state_dict())
    return exported.eval()


def fast_tokenizer() -> PreTrainedTokenizerFast:
    """Tekken as a fast tokenizer that puts BOS first and leaves white space out of a token's offsets. What looks like a
    special token in a text is text, as for Tekken."""
    from tokenizers import processors

    try:
        tokenizer = MistralConverter(str(tekken.load().path)).converted()
    except AttributeError:  # transformers 5.0 wants the ranks, not their file
        raise UserError("this transformers cannot convert Tekken: pip install --upgrade transformers") from None
    bos = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tekken.load().bos_id)])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), bos])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        split_special_tokens=True,
    )


def trimmed(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The borders of an entity without white space, a mark that glues it to the word before, and a mark that ends the
    sentence after another mark; None where nothing is left."""
    marks = punctuation + "«»’“”…"
    value = text[start:end]
    start, end = end - len(value.lstrip()), start + len(value.rstrip())
    if start >= end:
        return None
    glued = start > 0 and not text[start - 1].isspace() and text[start] in "-'’.:"
    start += glued and text[start + 1 : end][:1].isalpha()
    end -= end - start > 1 and text[end - 1] in ".,;:!?" and text[end - 2] in marks
    return start, end


def in_word(text: str, place: int) -> bool:
    """Whether letters or digits stand on both sides of a place. A mark is part of the letter before it."""
    left, right = (category(character)[:2] for character in text[place - 1 : place + 1])
    letters = left[0] in "LM" and right[0] == "L" and "Lo" not in (left, right)
    return letters or left == right == "Nd" or right[0] == "M"


def predicted(text: str, entities: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Entities as predict.py gives them: trimmed, widened to whole words up to their neighbours, and those of one label
    that then touch inside a word as one."""
    found = [(*borders, label) for *own, label in entities if (borders := trimmed(text, *own))]
    whole: list[tuple[int, int, str]] = []
    for i, (start, end, label) in enumerate(found):
        stop = found[i + 1][0] if i + 1 < len(found) else len(text)
        while end < stop and in_word(text, end):
            end += 1
        while start > (whole[-1][1] if whole else 0) and in_word(text, start):
            start -= 1
        if whole and whole[-1][1:] == (start, label) and in_word(text, start):
            start = whole.pop()[0]
        whole.append((start, end, label))
    return whole


def model_card(run: Path, config: dict, head: str) -> str:
    """What the model is, and how it was judged where evaluate.py left this head's figures in the run folder."""
    command = f"python evaluate.py --run RUN --head {head} --json RUN/{EVALUATION}"
    figures = f"Not evaluated. `{command}` before the export adds it.\n"
    try:
        report = json.loads((run / EVALUATION).read_text(encoding="utf-8"))
        if report["head"] == head:
            figures = (
                f"| on {report['documents']} documents | |\n|---|---|\n"
                f"| strict span F1 | {report['strict']['f1']:.3f} |\n"
                f"| token F1 | {report['token']['f1']:.3f} |\n"
                f"| leakage (share of PII characters missed) | {report['leakage']:.3f} |\n"
            )
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{run / EVALUATION} is damaged: run evaluate.py --json {run / EVALUATION} again") from None
    return f"""---
pipeline_tag: token-classification
---
# Personal data, token by token

A linear layer on the last hidden state of a frozen `{Path(config["backbone"]["name"]).name}`: `O` or one of
{len(config["labels"]) - 1} types for each Tekken v3 token. Trained on windows of {config["max_length"]} tokens.

{figures}
predict.py trims what a token at an entity's edge holds beyond the value, and widens entities to whole words. To do the
same:

```python
from string import punctuation
from unicodedata import category

from transformers import pipeline


{inspect.getsource(trimmed)}

{inspect.getsource(in_word)}

{inspect.getsource(predicted)}

classify = pipeline("token-classification", "FOLDER", aggregation_strategy="simple")
found = predicted(text, [(e["start"], e["end"], e["entity_group"]) for e in classify(text)])
```

It misses some personal data. Do not rely on it alone.
"""
