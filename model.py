"""The documented model: a frozen decoder and one linear layer on its last hidden states."""

import torch
import torch.nn.functional as F
from torch import nn

from pii.corpus.windows import IGNORE_INDEX
from pii.decoder.backbone import DEFAULT_BACKBONE, bos_id_of, load_backbone


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
        self.backbone = load_backbone(model_name, dtype)
        self.bos_id = bos_id_of(self.backbone)
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
