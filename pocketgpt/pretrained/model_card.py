"""The model card: a README.md beside exported weights that says what the model is and how to load it."""

import json
from pathlib import Path
from typing import Any

from pocketgpt.models.gpt import GPT
from pocketgpt.text.tokenizer import Tokenizer

CARD = """---
library_name: transformers
pipeline_tag: text-generation
tags: [pocketgpt]
---

# {name}

A language model made with PocketGPT and exported to the layout of Hugging Face transformers.

| | |
|---|---|
{rows}

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForCausalLM.from_pretrained("{name}")
inputs = tokenizer({prompt}, return_tensors="pt")
outputs = model.generate(**inputs, max_new_tokens=50, do_sample=True)
print(tokenizer.decode(outputs[0]))
```

The model writes what is probable after the prompt. It was not trained to be correct, safe or helpful.
"""


MEASURED = {"validation loss in nats per token": "validation_loss", "bits per byte": "bits_per_byte"}


def model_card(model: GPT, tokenizer: Tokenizer, architecture: str, name: str, training: dict[str, Any]) -> str:
    """The text of the card. `training` is the metadata of a checkpoint; what it does not say, the card leaves out.

    Of paths only the last name is written: the card may be published, and the folders of a machine are private.
    """
    config, recipe = model.config, training.get("recipe", {})
    origin = Path(training.get("initial_weights", {}).get("source", ""))
    rows = {
        "architecture": f"{architecture}: {config.n_layers} layers, d_model {config.d_model}",
        "parameters": f"{model.n_params():,}, stored as {str(model.dtype).removeprefix('torch.')}",
        "context": f"{config.max_seq_len:,} tokens",
        "vocabulary": f"{tokenizer.vocab_size:,} tokens",
        "preset": training.get("preset"),
        "fine-tuned from": (origin.parent if origin.name.startswith("step-") else origin).name.removesuffix(".gguf"),
        "text": Path(recipe.get("corpus", "")).name,
        "training": f"{training['step']:,} steps, {training['tokens']:,} tokens" if "tokens" in training else None,
        "validation loss": f"{training['validation_loss']:.4f} nats per token"
        if "validation_loss" in training
        else None,
        "bits per byte": f"{training['bits_per_byte']:.4f}" if "bits_per_byte" in training else None,
    }
    table = "\n".join(f"| {row} | {value} |" for row, value in rows.items() if value)
    # A string of Python, whatever it contains.
    prompt = json.dumps(recipe.get("prompt") or "Once upon a time", ensure_ascii=False)
    return CARD.format(name=name, rows=table, prompt=prompt)
