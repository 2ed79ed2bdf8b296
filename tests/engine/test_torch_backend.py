"""The torch engine equals the reference bit for bit, logits and cache; batches, cuts, CUDA's
padding; no float on the way.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import test_integers_only
import torch
from page_vectors import N_STEPS, PROMPT, page_model
from test_page_vectors import VECTORS, numbers
from tiny_models import EXTREMES, SHAPES, State, Tiny, ids, same_cache, same_however_cut, tiny
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sevenfold.core.errors import GateError, SevenfoldError, StorageError, UsageError
from sevenfold.engine import backends, ops, reference
from sevenfold.engine.pytorch import torch_backend, torch_ops
from sevenfold.engine.session import greedy_steps
from sevenfold.engine.weights import IntegerModel

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tiny rows: a second thread only waits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def compare(model: IntegerModel, tokens: np.ndarray, device: str = "cpu", **settings: Any) -> None:
    """Whole, and cut in the middle. `settings` are set on the engine's arithmetic."""
    cache = reference.Cache(model.shape)
    expected = reference.forward(model, tokens, cache)
    engine = torch_backend.TorchEngine(model, device)
    for name, value in settings.items():
        setattr(engine.law, name, value)
    session = engine.session()
    half = len(tokens) // 2
    parts = [session.forward(part) for part in (tokens[:half], tokens[half:])]
    assert np.array_equal(np.concatenate(parts), expected)
    same_cache(session, cache)
    assert np.array_equal(engine.session().forward(tokens), expected)


@pytest.fixture(scope="module")
def model() -> Tiny:
    return tiny("moe")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape(shape: str, device: str) -> None:
    built = tiny(shape)
    compare(built.load(), ids(20, built.graph["model"]["vocab_size"]), device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", ["dense", "moe"])
def test_odd_sizes(shape: str, device: str) -> None:
    built = tiny(shape, context=90, d_model=67, d_ffn=131, vocab_size=337, head_dim=18)
    compare(built.load(), ids(85, 337), device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_weights(name: str, device: str) -> None:
    compare(tiny("gqa", EXTREMES[name], largest=1.0).load(), ids(9), device)


@pytest.mark.parametrize("name", ["zero", "one_direction", "huge_queries"])
def test_rows_of_p_that_are_shifted(name: str) -> None:
    # From 517 equal keys on, the sum of P passes 2^24. The cache grows four times.
    compare(tiny("gqa", EXTREMES[name], largest=1.0, context=700, n_layers=1).load(), ids(650))


def test_past_the_long_context_the_sum_has_one_bit_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    def nearly_equal_scores(state: State) -> None:
        state["layers.00.attn.q_proj.weight"] *= np.float32(0.02)

    # From 259 nearly equal keys on, the sum of P passes 2^23.
    weights = tiny("gqa", nearly_equal_scores, context=400, n_layers=1).load()
    before = reference.forward(weights, ids(400), reference.Cache(weights.shape))
    for module in (ops, torch_ops):
        monkeypatch.setattr(module, "LONG_CONTEXT", 300)
    compare(weights, ids(400))
    after = reference.forward(weights, ids(400), reference.Cache(weights.shape))
    assert np.array_equal(before[:300], after[:300])
    assert not np.array_equal(before, after)


# What CUDA asks for, and what x86 without VNNI does, on any device.


@pytest.mark.parametrize("settings", [{"least_rows": 17}, {"exact_int8": False}])
@pytest.mark.parametrize("shape", ["mqa", "moe"])
def test_other_products(shape: str, settings: dict[str, Any]) -> None:
    compare(tiny(shape).load(), ids(20), **settings)


def test_the_probe_knows_a_product_that_saturates(monkeypatch: pytest.MonkeyPatch) -> None:
    def pairs_in_16_bits(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        # As oneDNN does without VNNI: a + 128 unsigned, pairs of products saturated.
        products = (a.int() + 128)[:, :, None] * b.int()[None]
        pairs = products.unflatten(1, (-1, 2)).sum(2).clamp(-(2**15), 2**15 - 1)
        return (pairs.sum(1) - 128 * b.int().sum(0)).int()

    assert torch_ops.int8_product_is_exact(
        torch.device("cpu")
    ) or not torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    monkeypatch.setattr(torch, "_int_mm", pairs_in_16_bits)
    assert not torch_ops.int8_product_is_exact(torch.device("cpu"))
    engine = torch_backend.TorchEngine(tiny("one").load(), "cpu")
    assert "int32" in engine.detail
    compare(tiny("dense").load(), ids(12))


# Cuts, passes, batches.


def test_a_prompt_cut_anywhere(model: Tiny) -> None:
    weights = model.load()
    same_however_cut(torch_backend.TorchEngine(weights, "cpu"), weights)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("last_only", [False, True])
@pytest.mark.parametrize("shape", ["moe", "stacks"])
@pytest.mark.parametrize(("pass_rows", "scores"), [(4096, 2**20), (7, 40), (1, 1)])
def test_batches_of_sequences_of_any_length(
    pass_rows: int, scores: int, shape: str, last_only: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_backend, "PASS_ROWS", {device: pass_rows})
    monkeypatch.setattr(torch_backend, "SCORES", {device: scores})
    weights = tiny(shape).load()
    engine, lengths = torch_backend.TorchEngine(weights, device), [1, 9, 3, 24, 2, 17]
    texts = [ids(n, seed=n) for n in lengths]
    caches = [reference.Cache(weights.shape) for _ in texts]
    sessions = [engine.session() for _ in texts]
    # Some sequences have a past, and some are not in the second call.
    first = [(s, t[: len(t) // 2]) for s, t in zip(sessions, texts, strict=True) if len(t) > 1]
    engine.forward_batch(first, last_only=last_only)
    rest = [(s, t[s.length :]) for s, t in zip(sessions, texts, strict=True) if len(t) != 17]
    results = iter(engine.forward_batch(rest, last_only=last_only))
    for session, text, cache in zip(sessions, texts, caches, strict=True):
        seen = 8 if len(text) == 17 else len(text)
        expected = reference.forward(weights, text[:seen], cache)
        if seen == len(text):
            start = -1 if last_only else len(text) // 2
            assert np.array_equal(next(results), expected[start:])
        same_cache(session, cache)


def test_a_session_cut_back_goes_on_as_if_it_had_never_been_longer() -> None:
    weights = tiny("gqa").load()
    session, cache = torch_backend.TorchEngine(weights, "cpu").session(), reference.Cache(weights.shape)
    session.forward(ids(21))
    session.truncate(7)
    expected = reference.forward(weights, np.concatenate((ids(21)[:7], ids(9, seed=2))), cache)
    assert np.array_equal(session.forward(ids(9, seed=2)), expected[7:])
    same_cache(session, cache)


@pytest.mark.parametrize("n_sequences", range(1, 18))
def test_decoding_in_batches_of_1_to_17(n_sequences: int) -> None:
    weights = tiny("gqa", n_layers=1).load()
    engine = torch_backend.TorchEngine(weights, "cpu")
    sessions = [engine.session() for _ in range(n_sequences)]
    text = ids(n_sequences + 2)
    for index, session in enumerate(sessions):
        session.forward(text[: index + 1])
    got = engine.forward_batch([(s, text[i + 1 : i + 2]) for i, s in enumerate(sessions)])
    expected = reference.forward(weights, text[:-1], reference.Cache(weights.shape))
    assert np.array_equal(np.concatenate(got), expected[1:])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("n_experts", "tokens", "logits", "digest"), VECTORS)
def test_the_vectors_of_the_page(n_experts: str, tokens: str, logits: str, digest: str, device: str) -> None:
    run = greedy_steps(torch_backend.TorchEngine(page_model(int(n_experts)).load(), device), PROMPT, N_STEPS)
    assert (list(run.tokens), run.logits_sha256) == (numbers(tokens), digest)


# Canaries.


def test_the_self_test_passes() -> None:
    assert backends.self_test("torch").startswith(DEVICES[-1])


@pytest.mark.parametrize(
    ("table", "entry"), [("exp2_table", 0), ("silu_table", slice(None)), ("rsqrt_table", 15)]
)
def test_a_wrong_table_fails_the_self_test(table: str, entry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    original = torch_ops.Arithmetic.__init__

    def wrong(self: torch_ops.Arithmetic, device: torch.device) -> None:
        original(self, device)
        getattr(self, table)[entry] ^= 4096

    monkeypatch.setattr(torch_ops.Arithmetic, "__init__", wrong)
    with pytest.raises(SevenfoldError, match="gives other logits than the reference"):
        backends.self_test("torch")


# Refusals.


def test_what_is_refused_changes_nothing(model: Tiny) -> None:
    engine = torch_backend.TorchEngine(model.load(), "cpu")
    session, other = engine.session(), engine.session()
    session.forward(ids(20))
    for bad, words in (
        ([], "at least one token id"), ([37], "outside the vocabulary"), ([-1], "outside the vocabulary"),
        ([0] * 5, "25 tokens exceed the context of 24"),
    ):  # fmt: skip
        with pytest.raises(GateError, match=words):
            engine.forward_batch([(other, ids(3)), (session, np.array(bad, np.int64))])
        assert (session.length, other.length) == (20, 0)
    with pytest.raises(GateError, match="in it twice"):
        engine.forward_batch([(other, ids(1)), (other, ids(1))])
    with pytest.raises(GateError, match="a batch is empty"):
        engine.forward_batch([])
    with pytest.raises(GateError, match="position 21 of a session of 20"):
        session.truncate(21)
    with pytest.raises(GateError, match="another engine"):
        torch_backend.TorchEngine(model.load(), "cpu").forward_batch([(other, ids(1))])
    other.close()
    other.close()
    for call in (
        lambda: other.forward(ids(1)), lambda: other.length, lambda: other.key_values(0),
        lambda: engine.forward_batch([(session, ids(1)), (other, ids(1))]),
    ):  # fmt: skip
        with pytest.raises(GateError, match="the session is closed"):
            call()
    assert session.length == 20
    session.forward(ids(4))


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), StorageError),
        (torch.OutOfMemoryError("CUDA out of memory"), StorageError),
        (MemoryError("Unable to allocate"), StorageError),
        (RuntimeError("a defect"), RuntimeError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_call_that_stops_half_way_leaves_the_sessions_as_they_were(
    error: BaseException, raised: type[BaseException], model: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_backend, "PASS_ROWS", {"cpu": 5})
    weights = model.load()
    engine = torch_backend.TorchEngine(weights, "cpu")
    session, calls = engine.session(), 0
    session.forward(ids(24)[:3])
    original = engine.law.swiglu

    def stops(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 6:  # in the second pass
            raise error
        return original(*args)

    monkeypatch.setattr(engine.law, "swiglu", stops)
    with pytest.raises(raised):
        session.forward(ids(24)[3:])
    assert session.length == 3
    cache = reference.Cache(weights.shape)
    assert np.array_equal(session.forward(ids(24)[3:]), reference.forward(weights, ids(24), cache)[3:])
    same_cache(session, cache)


@pytest.mark.parametrize("name", ["gpu", "meta", *(["cuda"] if len(DEVICES) == 1 else [])])
def test_devices_that_are_not_here(name: str) -> None:
    with pytest.raises(UsageError, match=f"'{name}' is"):
        torch_backend.choose_device(name)


# PyTorch is optional.


def test_without_pytorch_the_row_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UsageError, match="backend 'torch' is not available: PyTorch is not installed"):
        backends.find_backend("torch")


def test_sessions_do_not_choose_it_and_nothing_loads_it_unasked() -> None:
    assert "torch" not in backends.available()
    code = "import sys, sevenfold.cli, sevenfold.engine.session; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# Law 1: no floating-point tensor between ids and logits.


class FloatError(Exception):
    """A tensor or number that is not whole."""


class WholeNumbersOnly(TorchDispatchMode):
    """Refuses every operation that sees or gives anything but integers and truth values."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def check(self, value: Any, where: str) -> None:
        for leaf in tree_leaves(value):
            dtype = leaf.dtype if isinstance(leaf, torch.Tensor) else leaf
            if isinstance(dtype, (float, complex)) or (
                isinstance(dtype, torch.dtype) and (dtype.is_floating_point or dtype.is_complex)
            ):
                raise FloatError(f"{where}: {leaf}")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.add(func.__name__.split(".")[0])
        self.check((args, kwargs), str(func))
        result = func(*args, **(kwargs or {}))
        self.check(result, str(func))
        return result


@pytest.mark.parametrize("shape", ["dense", "gqa", "moe", "stacks"])
def test_the_forward_pass_sees_whole_numbers_only(shape: str) -> None:
    weights = tiny(shape).load()
    with WholeNumbersOnly() as mode:
        engine = torch_backend.TorchEngine(weights, "cpu")
        calls = [(engine.session(), ids(9)), (engine.session(), ids(4))]
        got = engine.forward_batch(calls, last_only=False)
        got += engine.forward_batch([(session, ids(1)) for session, _ in calls])
    assert np.array_equal(got[0], reference.forward(weights, ids(9), reference.Cache(weights.shape)))
    assert {g.dtype for g in got} == {np.dtype(np.int64)}
    # The guard was on the path where it matters.
    for name in (
        "_int_mm",
        "mul",
        "add",
        "sub",
        "sum",
        "amax",
        "cummin",
        "bucketize",
        "index_select",
        "div",
        "clamp",
        "cat",
        "bitwise_right_shift_",
        "bitwise_left_shift_",
        "constant_pad_nd",
        "_to_copy",
    ):
        assert name in mode.seen, name


def halved(v: Any) -> Any:
    return (v / 2).long()


def by_cast(v: Any) -> Any:
    return v.double().long()


def by_scalar(v: Any) -> Any:
    return (v * 1.0).long()


def by_creation(v: Any) -> Any:
    return v + torch.zeros(v.shape).long()


def by_root(v: Any) -> Any:
    return v.abs().sqrt().long()


@pytest.mark.parametrize("float_op", [halved, by_cast, by_scalar, by_creation, by_root])
@pytest.mark.parametrize("place", ["shifted", "mulsh", "peak_of"])
def test_an_injected_float_is_caught(
    place: str, float_op: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = getattr(torch_ops, place)
    monkeypatch.setattr(torch_ops, place, lambda v, *args: original(float_op(v), *args))
    if place == "mulsh":
        monkeypatch.setattr(torch_backend, place, torch_ops.mulsh)
    engine = torch_backend.TorchEngine(tiny("dense").load(), "cpu")
    with WholeNumbersOnly(), pytest.raises(FloatError):
        engine.session().forward(ids(5))


@pytest.mark.parametrize("module", [torch_backend, torch_ops], ids=lambda m: m.__name__)
def test_the_source_has_no_floats(module: Any) -> None:
    test_integers_only.test_the_source_of_the_path_has_no_floats(module)
