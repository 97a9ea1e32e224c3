"""PocketGPT: a modern GPT, built one idea at a time. The map of the package, in the order in which to read it.

    models/gpt.py          the model in 60 lines: tokens in, logits out
    models/stack.py        what it is made of: embedding, blocks, last norm; what it costs
    models/config.py       its config; models/presets.py has named ones; models/saving.py, on disk
    layers/                one idea a file, with its config, its cost and its paper: attention, feed-forward, RoPE, …
                           block.py puts them together; part.py says what a new one has to answer
    inference/             generate.py writes; sampling.py picks a token; kv_cache.py; conversation.py answers;
                           quantization.py (int8 weights)
    text/                  from text to batches: tokenizer.py, word_tokenizer.py, corpora.py, batches.py
    training/              trainer.py is the loop, step.py one step of it, loss.py, optimizer.py, recipes.py (settings)
    pretrained/            published weights: the names of Hugging Face and ours, both ways; GGUF files; SmolLM2
    bench/                 speed, beside what one would use instead
    commands/              the subcommands of `pocketgpt`, one a file; cli.py is their table
    course/                the notebooks' side: syllabus.py lists the chapters; ch02_attention/ has the exercises of
                           chapter 2, a file each; checking/ judges an answer; lab/ is what notebooks import
    grading/               a folder of notebooks becomes a gradebook

Imports point one way: layers → models → inference → training, pretrained → course → grading, commands. text/ needs none
of them.
"""

__version__ = "0.1.0"
