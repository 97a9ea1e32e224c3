"""Mistakes that the chapter's table of symptoms leaves out.

Each resembles one that the table shows, or nobody overlooks it.
"""

RARE = (
    "second_half_of_the_first",
    "second_half_mirrored",
    "halves_of_x_exchanged",
    "each_half_alone",
    "second_half_overwritten",
    "first_half_stays",
    "first_negated",
    "signs_of_the_halves",
    "cosine_minus_sine",
    "partner_from_the_other_end",
    "stacked",
    "joined_along_the_tokens",
    "halves_added",
    "cut_along_the_tokens",
    "first_row_of_the_table",
    "sum_and_difference",
    "odd_exponents",
    "not_divided",
    "product_for_power",
    "exponents_alone",
    "whole_numbers_below_zero",
    "base_e",
    "minus_in_front",
    "base_and_exponent_exchanged",
    "half_of_the_pairs",
    "of_half_a_head",
    "cosines",
    "an_axis_in_front",
    "divided_outside_the_power",
    "interleaved_and_backward",
    "coordinates_counted_as_pairs",
)
