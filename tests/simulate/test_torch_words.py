"""Random words and numbers by torch operations: the words of the plain reading, the numbers of the compiled code."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sgdscope.simulate import keyed
from sgdscope.simulate.compiling import kernel
from sgdscope.simulate.torch_backend import numbers
from sgdscope.simulate.torch_backend.words import Schedule, signed, xoshiro

COMPILED = """
from sgdscope.simulate.generators import xoshiro
from sgdscope.simulate.normals import normals, sum_of_signs, uniforms


def numbers(words, mask, found):
    for i in range(words.shape[1]):
        found[0, i], found[1, i] = normals(words[0, i], words[1, i])
        found[2, i], found[3, i] = uniforms(words[0, i], words[1, i])
        found[4, i], found[5, i] = sum_of_signs(words[0, i], mask), sum_of_signs(words[1, i], mask)


def stream(state, words):
    s0, s1, s2, s3 = state
    for i in range(len(words)):
        words[i], s0, s1, s2, s3 = xoshiro(s0, s1, s2, s3)
"""


def tensor(words):
    return torch.tensor(words.view(np.int32))


def unsigned(tensors):
    return np.stack([t.numpy() for t in tensors]).view(np.uint32)


@given(seed=st.integers(0, (1 << 64) - 1), draw=st.integers(0, keyed.MAX_DRAWS - 1), stream=st.integers(0, 0xFFFF))
def test_words_are_those_of_the_plain_reading(seed, draw, stream):
    keys = keyed.trajectory_keys(seed, 0, 40)
    found = Schedule(tensor(keys)).words(signed(draw), signed(draw >> 32 << 16) + stream)
    np.testing.assert_array_equal(unsigned(found), keyed.draw_words(keys, draw, stream))


def test_published_vector():
    found = unsigned(Schedule(torch.zeros(2, 1, dtype=torch.int32)).words(0, 0))
    assert [hex(word) for word in found[:, 0]] == ["0x9d1c5ec6", "0x8bd50731"]


def test_words_of_the_fast_generator():
    state, expected = np.array([1, 2, 0x80000003, 4], np.uint32), np.empty(60, np.uint32)
    kernel(COMPILED, "stream")(tuple(state), expected)
    words, lanes = [], list(tensor(state)[:, None])
    for _ in range(60):
        word, lanes = xoshiro(lanes)
        words.append(word[0])
    np.testing.assert_array_equal(unsigned(words), expected)


@pytest.mark.parametrize("signs", [1, 5, 24])
def test_numbers_are_those_of_compiled_code(signs):
    ends = np.array([0, 1, 255, 256, 0x7FFFFFFF, 0x80000000, 0xFFFFFF00, 0xFFFFFFFF], np.uint32)
    drawn = keyed.draw_words(keyed.trajectory_keys(3, 0, 100_000), 5)
    words = np.concatenate([np.array(np.meshgrid(ends, ends)).reshape(2, -1), drawn], axis=1)
    expected = np.empty((6, words.shape[1]), np.float32)
    kernel(COMPILED, "numbers")(words, np.uint32((1 << signs) - 1), expected)
    pair = tensor(words)
    np.testing.assert_allclose(np.stack(numbers.normals(*pair)), expected[:2], rtol=1e-6, atol=2e-6)
    np.testing.assert_array_equal(np.stack(numbers.uniforms(*pair)), expected[2:4])
    np.testing.assert_array_equal(np.stack(numbers.sums_of_signs(*pair, signs, signs)), expected[4:])
    assert unsigned(pair).tolist() == words.tolist()  # words are only read
