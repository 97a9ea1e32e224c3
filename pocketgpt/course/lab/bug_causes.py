"""The causes of find-the-bug: what they are called, and which mistakes of the catalogues are planted for them."""

RIGHT = "right"
CAUSES = {
    "model": {
        "no_scale": "The scores are not divided by √d_head.",
        "no_causal_mask": "Nothing hides later tokens.",
        "mask_one_too_far": "The causal mask reaches one position too far: each token also sees the next one.",
        "softmax_over_queries": "The softmax runs over the queries instead of the keys.",
        "heads_cut_by_view": "The heads are cut with `view`, without a transpose, so tokens and heads are mixed.",
        "wrong_rope_layout": "RoPE pairs neighbors (0, 1), (2, 3), …; the weights were trained with halves.",
        "gate_without_activation": "The gate of the feed-forward has no SiLU.",
        "final_norm_forgotten": "The norm before the head is missing.",
        "loss_shifted_twice": "The loss compares the logits at t with token t + 2. The model is right.",
        "residual_forgotten": "The blocks return what their layers compute, without adding it to the stream.",
        "mask_after_softmax": "The mask sets weights to 0 after the softmax instead of hiding scores before it.",
    },
    "running": {
        "positions_restart": "With a cache, every call rotates its tokens as if the text began with them.",
        "one_position_too_few": "With a cache, new tokens get a position one too small.",
        "cache_drops_the_oldest": "The cache never grows: old tokens are dropped to make room for new ones.",
        "cache_forgets_all": "The cache returns only the newest tokens, so that a step later the prompt is gone.",
        "last_of_the_prompt_alone": "Only the last of several new tokens enters the cache.",
        "chunk_without_a_mask": "Several new tokens after kept ones see each other's future.",
        "chunk_from_the_corner": "The mask of several new tokens after kept ones begins at the top left corner.",
        "temperature_multiplied": "The logits are multiplied by the temperature.",
        "top_k_filled_with_zeros": "Top-k gives the tokens that it rules out the logit 0.",
        "always_the_largest": "The draw takes the most probable token every time.",
    },
    "training": {
        "targets_not_shifted": "The targets are the inputs.",
        "targets_two_ahead": "The targets are two tokens ahead of the inputs.",
        "same_batch_again": "Every step trains on the same batch.",
        "leaking_mask": "The model's causal mask reaches one position too far.",
        "softmax_twice": "The loss takes the softmax of a softmax.",
        "loss_in_bits": "The training loss is in bits, the held-out loss in nats.",
        "long_gradients_dropped": "Gradients above the limit are set to 0 instead of being shortened.",
        "decay_without_the_rate": "Weight decay is not multiplied by the learning rate.",
        "cosine_without_the_one": "The schedule's 1 + cos(…) lacks the 1.",
        "uphill": "The update adds the step to the weights instead of subtracting it.",
        "no_warm_up": "The learning rate begins at its peak.",
    },
}
"""Causes to choose from, by part and key."""

NEVER_PLANTED = {"residual_forgotten", "mask_after_softmax", "chunk_from_the_corner", "always_the_largest", "uphill"}

PLANTS = {
    "model": {
        "no_scale": ("attention_scores", "not_scaled"),
        "no_causal_mask": ("causal_mask", "everything_allowed"),
        "mask_one_too_far": ("causal_mask", "one_into_the_future"),
        "softmax_over_queries": ("masked_softmax", "over_the_queries"),
        "heads_cut_by_view": ("split_heads", "view_straight_to_the_shape"),
        "wrong_rope_layout": ("apply_rope", "interleaved_pairs"),
        "gate_without_activation": ("swiglu", "no_activation"),
        "final_norm_forgotten": ("gpt", "final_norm_forgotten"),
        "loss_shifted_twice": ("next_token_loss", "shifted_twice"),
        "residual_forgotten": ("pre_norm", "addition_forgotten"),
        "mask_after_softmax": ("masked_softmax", "mask_after_softmax"),
    },
    "running": {
        "positions_restart": ("cached_layer", "every_token_at_position_zero"),
        "one_position_too_few": ("cached_layer", "one_position_too_few"),
        "cache_drops_the_oldest": ("append_kv", "oldest_dropped"),
        "cache_forgets_all": ("cached_layer", "only_new_ones_returned"),
        "last_of_the_prompt_alone": ("append_kv", "only_the_last_new_one"),
        "chunk_without_a_mask": ("cached_layer", "no_mask_for_a_chunk"),
        "chunk_from_the_corner": ("cached_layer", "is_causal_for_several"),
        "temperature_multiplied": ("temper", "multiplied"),
        "top_k_filled_with_zeros": ("keep_top_k", "zeros"),
        "always_the_largest": ("draw", "most_likely"),
    },
    "training": {
        "targets_not_shifted": ("make_batch", "targets_are_the_inputs"),
        "targets_two_ahead": ("make_batch", "targets_two_ahead"),
        "same_batch_again": ("make_batch", "starts_ignored"),
        "leaking_mask": ("causal_mask", "one_into_the_future"),
        "softmax_twice": ("cross_entropy", "softmax_twice"),
        "loss_in_bits": ("cross_entropy", "in_bits"),
        "long_gradients_dropped": ("clip_gradients", "long_ones_dropped"),
        "decay_without_the_rate": ("adamw_step", "decay_without_the_rate"),
        "cosine_without_the_one": ("learning_rate", "one_forgotten"),
        "uphill": ("adamw_step", "uphill"),
        "no_warm_up": ("learning_rate", "no_warm_up"),
    },
}
"""The wrong function of each cause: the exercise, and the name of the mistake in its catalogue."""

PARTS = tuple(CAUSES)
