"""Chapter 24: find the bug. Each exercise names the mistakes planted into five models or trainings.

The mistakes are those of the exercises in pocketgpt.course.ch02_attention, pocketgpt.course.ch04_multi_head_attention,
pocketgpt.course.ch05_norm_and_residual, pocketgpt.course.ch06_feed_forward, pocketgpt.course.ch08_rope,
pocketgpt.course.ch10_the_gpt, pocketgpt.course.ch11_generation, pocketgpt.course.ch12_kv_cache and
pocketgpt.course.ch14_training, which a hand-out of this chapter therefore contains.
"""
