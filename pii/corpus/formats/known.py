"""Rows of ai4privacy's data sets, of presidio-research, and those of our own: `unmasked_text` and `span_labels`."""

from pii.corpus.formats.fields import Found, records, triples

RESEARCH = ("start_position", "end_position", "entity_type", "entity_value")


def read(fields: dict) -> Found | None:
    if "full_text" in fields and "spans" in fields:  # presidio-research
        return fields["full_text"], records(fields["spans"], RESEARCH)
    if "source_text" in fields and isinstance(fields.get("privacy_mask"), list):  # pii-masking-200k today
        return fields["source_text"], records(fields["privacy_mask"], ("start", "end", "label", "value"))
    for name in ("source_text", "unmasked_text"):
        if name in fields and "span_labels" in fields:
            return fields[name], triples(fields["span_labels"])
    return None
