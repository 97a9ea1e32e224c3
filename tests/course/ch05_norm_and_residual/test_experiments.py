"""The stored training curves are complete, and the models are those that the chapter describes."""

import pytest
import torch

from pocketgpt.course.ch05_norm_and_residual import experiments


@pytest.mark.parametrize("n_layers", experiments.SEEDS)
@pytest.mark.parametrize("warmup", experiments.WARMUPS)
def test_every_run_is_stored(n_layers, warmup):
    curves = experiments.stored_curves(n_layers, warmup)
    assert curves.shape == (2, 2, experiments.SEEDS[n_layers], experiments.STEPS // experiments.EVERY + 1)
    assert curves.isfinite().all()


def test_the_starts_have_the_sizes_that_the_chapter_names():
    gpt2, xavier = (experiments.new_model("post", start, 12) for start in experiments.STARTS)
    for model, size, output_size in ((gpt2, 0.02, 0.02 / 24**0.5), (xavier, 48**-0.5, 48**-0.5)):
        mixer = model.blocks[3].mixer
        assert mixer.q_proj.weight.std().item() == pytest.approx(size, rel=0.05)
        assert mixer.o_proj.weight.std().item() == pytest.approx(output_size, rel=0.05)


def test_warm_up_makes_the_first_steps_smaller_and_the_points_come_every_ten_steps():
    text = torch.randint(experiments.CHARACTERS, (500,))
    windows = experiments.random_windows(text, 2)
    models = [experiments.new_model("pre", "gpt2", 1) for _ in range(2)]
    starting = models[0].head.weight.detach().clone()
    moved = []
    for model, warmup in zip(models, (0, 40), strict=True):
        points = list(experiments.train(model, text, windows, warmup, steps=10))
        assert [point.step for point in points] == [0, 10]
        moved.append((model.head.weight - starting).norm().item())
    assert moved[1] < 0.5 * moved[0]
