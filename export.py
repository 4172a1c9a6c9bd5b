"""A run as a folder that plain transformers loads: `python predict.py --run RUN --export FOLDER`."""

import json
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForTokenClassification, PreTrainedTokenizerFast
from transformers.integrations.mistral.tokenizer import MistralConverter

import tekken
from common import UserError, atomic_folder, write_json
from heads import DOCUMENTED
from runs import load_run, read_config
from tagging import Tagger

EVALUATION = "evaluation.json"  # in the run folder: evaluate.py --json; its figures go into the model card
MARK = "export.json"


def export_run(run: Path, folder: Path) -> None:
    """Write the documented head of a run and its backbone as a token classification model with a fast tokenizer.

    `AutoModelForTokenClassification.from_pretrained(folder)` and `pipeline("token-classification",
    aggregation_strategy="simple")` then find the spans that predict.py finds in texts of at most max_length tokens,
    but for the punctuation that predict.py trims at a span's edges.
    """
    config = read_config(run)
    head = next((name for name, entry in config["heads"].items() if entry["kind"] == DOCUMENTED), None)
    if head is None:
        raise UserError(f"{run} has no {DOCUMENTED} head: transformers has no class for the others")
    tagger, _ = load_run(run, torch.device("cpu"), head)
    with atomic_folder(folder, MARK) as temporary:
        as_transformers(tagger, config["labels"]).save_pretrained(temporary)
        fast_tokenizer().save_pretrained(temporary)
        (temporary / "README.md").write_text(model_card(run, config), encoding="utf-8")
        mark = {"labels": len(config["labels"]), "tokenizer": config["tokenizer"], "backbone": config["backbone"]}
        write_json(temporary / MARK, mark)
    print(f'wrote {folder}: pipeline("token-classification", "{folder}", aggregation_strategy="simple")')


def as_transformers(tagger: Tagger, labels: list[str]):
    """The same weights in transformers' own class for this kind of backbone."""
    config = AutoConfig.from_pretrained(tagger.reader.backbone.config.name_or_path)
    config.id2label, config.label2id = dict(enumerate(labels)), {label: i for i, label in enumerate(labels)}
    config.dtype = tagger.reader.backbone.dtype
    with torch.device("meta"):
        exported = AutoModelForTokenClassification.from_config(config)
    exported.model = tagger.reader.backbone
    exported.score = nn.Linear(tagger.head.in_features, tagger.head.out_features)
    exported.score.load_state_dict(tagger.head.state_dict())
    return exported.eval()


def fast_tokenizer() -> PreTrainedTokenizerFast:
    """Tekken as a fast tokenizer that puts BOS first and leaves white space out of a token's offsets."""
    from tokenizers import processors

    tokenizer = MistralConverter(str(tekken.load().path)).converted()
    bos = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tekken.load().bos_id)])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), bos])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def model_card(run: Path, config: dict) -> str:
    """What the model is, and how it was judged where evaluate.py left its figures in the run folder."""
    try:
        report = json.loads((run / EVALUATION).read_text(encoding="utf-8"))
        figures = (
            f"| on {report['documents']} documents | |\n|---|---|\n"
            f"| strict span F1 | {report['strict']['f1']:.3f} |\n"
            f"| token F1 | {report['token']['f1']:.3f} |\n"
            f"| leakage (share of PII characters missed) | {report['leakage']:.3f} |\n"
        )
    except FileNotFoundError:
        figures = f"Not evaluated. `python evaluate.py --run RUN --json RUN/{EVALUATION}` before the export adds it.\n"
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{run / EVALUATION} is damaged: run evaluate.py --json {run / EVALUATION} again") from None
    return f"""---
pipeline_tag: token-classification
---
# Personal data, token by token

A linear layer on the last hidden state of a frozen `{Path(config["backbone"]["name"]).name}`: `O` or one of
{len(config["labels"]) - 1} types for each Tekken v3 token. Trained on windows of {config["max_length"]} tokens.

{figures}
It misses some personal data. Do not rely on it alone.
"""
