"""The frozen backbone, the head that is trained on its hidden states, and how a run is saved and loaded."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from common import UserError
from dataset import IGNORE_INDEX, Windows, length_sorted_batches
from spans import OUTSIDE_ID, ranges, starts_of

DEFAULT_BACKBONE = "mistralai/Ministral-8B-Instruct-2410"
PINNED_REVISIONS = {DEFAULT_BACKBONE: "2f494a194c5b980dfb9772cb92d26cbb671fce5a"}
BOS_ID = 1  # Tekken's; used where the backbone's configuration names none
RUN_VERSION = 1
WINDOWS_A_CHUNK = 1024  # whose features are held at a time in prediction
DOCUMENTED = "documented"
OPERATING_POINTS = "operating_points.json"  # in a run folder: head → {target_recall, bias, recall, precision, leakage}
# more fill the matrix units of a GPU, fewer stay in a CPU's caches (measured: 1,024 tokens are 1.2x as fast as 4,096)
TOKENS_PER_FORWARD = {"cuda": 8192, "cpu": 1024}


class MinistralTokenClassifier(nn.Module):
    """A frozen decoder and one linear layer on its last hidden states.

    `backbone` never trains and stays in eval mode; `classifier` holds float32 weights, since a bfloat16 weight cannot
    take steps of 1e-5. BOS is put before every window here and its position dropped again. Raises UserError where
    the backbone cannot be loaded.
    """

    def __init__(
        self,
        model_name: str = DEFAULT_BACKBONE,
        num_labels: int = 57,
        dropout: float = 0.1,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__()
        self.backbone = load_backbone(model_name, dtype).requires_grad_(False).eval()
        bos_id = self.backbone.config.bos_token_id
        self.bos_id = BOS_ID if bos_id is None else bos_id
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(self.backbone.config.hidden_size, num_labels, dtype=torch.float32)

    def train(self, mode: bool = True) -> "MinistralTokenClassifier":
        super().train(mode)
        self.backbone.eval()
        return self

    @torch.no_grad()
    def features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """[batch, length] token ids, padded on the right → last hidden states [batch, length, hidden_size].

        Attention is causal, so a real token never sees the padding after it: no mask is needed.
        """
        bos = input_ids.new_full((len(input_ids), 1), self.bos_id)
        if attention_mask is not None:
            attention_mask = torch.cat([torch.ones_like(bos, dtype=attention_mask.dtype), attention_mask], dim=1)
        output = self.backbone(
            input_ids=torch.cat([bos, input_ids], dim=1), attention_mask=attention_mask, use_cache=False
        )
        return output.last_hidden_state[:, 1:]

    def head(self, features: torch.Tensor) -> torch.Tensor:
        """[..., hidden_size] features → [..., num_labels] float32 logits."""
        return self.classifier(self.dropout(features.float()))

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """{"logits": [batch, length, num_labels] float32}, and "loss" where labels [batch, length] are given:
        cross-entropy averaged over the labels that are not -100."""
        logits = self.head(self.features(input_ids, attention_mask))
        if labels is None:
            return {"logits": logits}
        loss = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORE_INDEX)
        return {"loss": loss, "logits": logits}

    @property
    def device(self) -> torch.device:
        return self.classifier.weight.device


def load_backbone(name: str, dtype: torch.dtype, option: str = "--backbone") -> nn.Module:
    """A decoder without its output layer, from a local folder or the hub (at a pinned revision where we know one).

    Raises UserError, which names the command line's `option`.
    """
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()  # the unused output layer is no news
    logging.disable_progress_bar()
    revision = PINNED_REVISIONS.get(name, "main")
    try:
        backbone, report = AutoModel.from_pretrained(name, revision=revision, dtype=dtype, output_loading_info=True)
    except Exception as error:  # transformers and the hub client pass on whatever lies below them
        if Path(name).is_dir():
            reason = (str(error).splitlines() or [""])[0][:160]
            raise UserError(
                f"cannot load the backbone in {name} ({type(error).__name__}: {reason}): pass another {option} FOLDER"
            ) from None
        raise UserError(
            f"cannot load the backbone {name} ({type(error).__name__}): it is no local folder; on the hub, accept its "
            f"terms at https://huggingface.co/{name} and log in with `hf auth login` or HF_TOKEN; offline, pass "
            f"{option} FOLDER (`python standin.py` builds a small one)"
        ) from None
    if missing := report["missing_keys"]:  # transformers would fill them with random numbers
        raise UserError(f"the backbone {name} lacks {len(missing)} weights, as {min(missing)}: pass another {option}")
    return backbone


def choose_device(name: str) -> torch.device:
    """The device `auto` stands for, or the named one. Raises UserError where it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name} cannot be used ({str(error).splitlines()[0]}): try --device cpu") from None
    return device


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def backbone_dtype(device: torch.device) -> torch.dtype:
    """bfloat16, but float32 on a CPU, where bfloat16 is mostly emulated (measured with AVX2: six times slower)."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def check_vocabulary(model: MinistralTokenClassifier, tokenizer: dict) -> None:
    """Raise UserError unless the backbone reads the ids that this tokenizer (as prepare.py describes it) makes."""
    config = model.backbone.config
    if config.vocab_size < tokenizer["vocab_size"]:
        raise UserError(
            f"the data's tokenizer {tokenizer.get('name')} has {tokenizer['vocab_size']} ids but the backbone "
            f"{config.name_or_path} only {config.vocab_size}: choose a backbone that reads Tekken v3 ids"
        )
    mark = Path(config.name_or_path) / "standin.json"
    try:
        known = json.loads(mark.read_text())["tokenizer"]["sha256"] if mark.is_file() else tokenizer["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{mark} is damaged: build the backbone anew with standin.py") from None
    if known != tokenizer["sha256"]:
        raise UserError(f"{config.name_or_path} was built for another tokenizer file: build it anew with standin.py")


def scored_features(
    model: MinistralTokenClassifier,
    token_ids: np.ndarray,
    windows: Windows,
    chosen: np.ndarray,
    progress: Callable[[int], object] = lambda tokens: None,
) -> torch.Tensor:
    """Hidden states of the scored tokens of the chosen windows, in their order: [tokens, hidden_size].

    The backbone is frozen, so its batches need not be the optimizer's: windows of like length go together, which
    leaves next to no padding. `token_ids` [tokens of the split]; `progress` hears how many tokens were scored.
    """
    start, scored_from, stop = windows.start[chosen], windows.scored_from[chosen], windows.stop[chosen]
    lengths, scored = stop - start, stop - scored_from
    place = starts_of(scored)
    shape = (int(place[-1]), model.classifier.in_features)
    features = torch.empty(shape, dtype=model.backbone.dtype, device=model.device)
    for batch in length_sorted_batches(lengths, TOKENS_PER_FORWARD.get(model.device.type, 4096)):
        width = int(lengths[batch].max())
        row_start = np.arange(len(batch)) * width
        input_ids = np.zeros(len(batch) * width, dtype=np.int64)
        input_ids[ranges(row_start, lengths[batch])] = token_ids[ranges(start[batch], lengths[batch])]
        hidden = model.features(torch.from_numpy(input_ids).view(len(batch), width).to(model.device))
        source = ranges(row_start + (scored_from - start)[batch], scored[batch])
        target = ranges(place[batch], scored[batch])
        features[torch.from_numpy(target).to(model.device)] = hidden.flatten(0, 1)[
            torch.from_numpy(source).to(model.device)
        ]
        progress(int(scored[batch].sum()))
    return features


class TokenPredictions(NamedTuple):
    """What the head says of each token: enough to choose tags at any operating point."""

    label_ids: np.ndarray  # [tokens] uint16: the likeliest label but O
    margins: np.ndarray  # [tokens] float32: logit of O minus that label's
    probabilities: np.ndarray  # [tokens] float32: that label's

    def tags(self, bias: float = 0.0) -> np.ndarray:
        """[tokens] uint16 label ids with the logit of O lowered by `bias`; 0 is plain argmax."""
        return np.where(self.margins >= bias, self.label_ids.dtype.type(OUTSIDE_ID), self.label_ids)


@torch.inference_mode()
def predict_tokens(
    model: MinistralTokenClassifier,
    token_ids: np.ndarray,
    windows: Windows,
    progress: Callable[[int], object] = lambda tokens: None,
) -> TokenPredictions:
    """Predictions for the scored tokens of all windows, in their order: with make_windows' windows, every token."""
    parts = []
    for start in range(0, len(windows), WINDOWS_A_CHUNK):
        chosen = np.arange(start, min(start + WINDOWS_A_CHUNK, len(windows)))
        logits = model.head(scored_features(model, token_ids, windows, chosen, progress))
        best, label_ids = logits[:, OUTSIDE_ID + 1 :].max(dim=-1)
        margins, probabilities = logits[:, OUTSIDE_ID] - best, (best - logits.logsumexp(dim=-1)).exp()
        parts.append(
            [(label_ids + 1).cpu().numpy().astype(np.uint16), margins.cpu().numpy(), probabilities.cpu().numpy()]
        )
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return TokenPredictions(*(columns or [np.zeros(0, np.uint16), np.zeros(0, np.float32), np.zeros(0, np.float32)]))


def save_head(model: MinistralTokenClassifier, folder: Path) -> None:
    """`folder`/head.safetensors: weight [num_labels, hidden_size] and bias [num_labels], float32."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.classifier.state_dict().items()}
    save_file(weights, folder / "head.safetensors")


def read_config(run: Path) -> dict:
    """config.json of a run folder. Raises UserError."""
    path = run / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        tokenizer, labels = config["tokenizer"], config["labels"]
        sound = (
            config["run_version"] == RUN_VERSION
            and isinstance(config["backbone"]["name"], str)
            and isinstance(config["heads"], dict)
            and isinstance(config["max_length"], int)
            and config["max_length"] > 0
            and isinstance(tokenizer["sha256"], str)
            and isinstance(tokenizer["vocab_size"], int)
            and labels[0] == "O"
            and all(isinstance(label, str) and label.isprintable() for label in labels)
            and len(set(labels)) == len(labels) > 1
        )
    except FileNotFoundError:
        raise UserError(f"{run} holds no run: train one with python train.py --output {run}") from None
    except (OSError, ValueError, KeyError, IndexError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise UserError(f"{path} is of another version or damaged: train again")
    return config


def stored_bias(run: Path, head: str) -> float:
    """The bias on O of the operating point that evaluate.py stored for this head. Raises UserError."""
    path = run / OPERATING_POINTS
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))[head]["bias"])
    except FileNotFoundError:
        raise UserError(f"{run} has no operating point: store one with evaluate.py --target-recall 0.99") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{path} holds no operating point of {head}: run evaluate.py --target-recall again") from None


def load_run(
    run: Path, device: torch.device, head: str = DOCUMENTED, backbone: str | None = None
) -> tuple[MinistralTokenClassifier, dict]:
    """The trained model of a run folder, in eval mode, and its config. Raises UserError.

    `backbone` says where the backbone is now, if it is not where it was in training.
    """
    config = read_config(run)
    if head not in config["heads"]:
        raise UserError(f"{run} has no head {head}: choose one of {', '.join(config['heads'])}")
    path = run / head / "head.safetensors"
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read {path} ({type(error).__name__}): train again") from None
    name = backbone or config["backbone"]["name"]
    model = MinistralTokenClassifier(name, len(config["labels"]), dtype=backbone_dtype(device))
    check_vocabulary(model, config["tokenizer"])
    try:
        model.classifier.load_state_dict(weights)
    except RuntimeError:
        raise UserError(f"{path} does not fit the backbone {name}: train again") from None
    if not all(torch.isfinite(weight).all() for weight in model.classifier.parameters()):
        raise UserError(f"{path} holds weights that are not finite: train again")
    return model.to(device).eval(), config
