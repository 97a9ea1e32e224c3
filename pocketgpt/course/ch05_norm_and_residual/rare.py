"""Mistakes that the chapter's table of symptoms leaves out.

Each resembles one that the table shows, or nobody overlooks it.
"""

RARE = (
    "length_and_eps",
    "divided_by_d_after_the_root",
    "not_squared",
    "deviation_plus_eps",
    "variance_of_pytorch",
    "largest_number",
    "over_the_first_axis",
    "over_two_axes",
    "weight_added",
    "divided_by_the_weight",
    "root_of_the_root",
    "layer_not_called",
    "norm_alone",
    "stream_overwritten",
    "stream_counted_twice",
    "addition_halved",
    "normalized_twice",
    "post_norm_with_addition",
    "layer_called_twice",
    "turned_round",
    "side_by_side",
    "eps_outside_in_float32",
)
