"""Every recipe that ships: it loads, keeps its family's policy, and hits its budget
exactly as the issue freezes it.
"""

import pytest

from sevenfold.core.errors import StorageError, UsageError
from sevenfold.recipe import list_shipped, load_recipe, resolve_recipe_path
from sevenfold.recipe.policy import violations
from sevenfold.recipe.shipped import recipe_paths
from sevenfold.recipe.sizing import count, expert_parameters, trunk_parameters

# name -> (least, most, exact) parameters; the exact count freezes the shape.
BUDGETS = {
    "s7/demo-1m": (0.5e6, 2e6, 1_082_496),
    "s7/stdlib-1m": (0.5e6, 2e6, 1_082_496),
    "s7/tune-demo": (0.5e6, 2e6, 1_082_496),
    "s7/stdlib-8m": (7e6, 9e6, 8_033_600),
    "s7/base-8m": (7e6, 9e6, 8_033_600),
    "s7/code-8m": (7e6, 9e6, 8_033_600),
    "s7/math-8m": (7e6, 9e6, 8_033_600),
    "s7/general-8m": (7e6, 9e6, 8_033_600),
    "s7/moe-8m": (7e6, 9e6, 8_525_120),
    "s7/code-30m": (27e6, 33e6, 30_419_456),
    "s7/code-100m": (90e6, 110e6, 100_685_568),
    "s7/code-300m": (270e6, 330e6, 299_418_624),
    "s7/moe-140m": (133e6 * 0.98, 133e6 * 1.02, 132_684_288),
    "m31r/60m": (57e6, 63e6, 59_785_728),
    "m31r/200m": (190e6, 210e6, 198_480_896),
    "m31r/450m": (427.5e6, 472.5e6, 448_328_960),
    "llama/tiny-30m": (10e6, 50e6, 29_499_264),
    "llama/medium-150m": (100e6, 300e6, 150_436_608),
    "llama/1.5b": (1.5e9 * 0.995, 1.5e9 * 1.005, 1_500_088_320),
    "slm/2b": (1.98e9, 2.02e9, 1_991_902_464),
    "slm/proxy-10m": (9.5e6, 10.5e6, 10_091_840),
    "slm/draft-300m": (285e6, 315e6, 298_184_448),
}


def test_the_list_is_complete():
    assert set(recipe_paths()) == set(BUDGETS)
    assert [recipe.name for recipe in list_shipped()] == sorted(BUDGETS)
    assert all(recipe.tier and recipe.summary for recipe in list_shipped())


@pytest.mark.parametrize("name", list(BUDGETS))
def test_budget_and_policy(name):
    recipe = load_recipe(recipe_paths()[name])
    low, high, exact = BUDGETS[name]
    assert low <= exact <= high
    assert count(recipe.model) == exact
    assert violations(recipe) == []
    assert recipe.family == name.partition("/")[0]


def test_shapes_that_the_documents_fix():
    moe = load_recipe(recipe_paths()["s7/moe-8m"]).model
    assert (trunk_parameters(moe), expert_parameters(moe)) == (4_592_960, 1_966_080)
    default = load_recipe(recipe_paths()["m31r/200m"])
    assert (default.model.d_model, default.model.n_heads) == (1024, 16)
    assert 18 <= default.model.n_layers <= 24
    assert (default.train.objectives.fim, default.train.objectives.cot) == (0.3, 0.2)
    phases = load_recipe(recipe_paths()["s7/moe-140m"]).train.phases
    assert [phase.tokens for phase in phases] == [50 * 10**9, 59 * 10**9]
    billions = {expert: tokens / 1e9 for expert, tokens in phases[1].tokens_per_expert.items()}
    assert billions == {"code": 20, "math": 15, "reasoning": 12, "general": 12}


@pytest.mark.parametrize(
    ("name", "kind", "licence"),
    [
        ("s7/demo-1m", "lock", "BSD-3-Clause"),
        ("s7/stdlib-1m", "stdlib", "PSF-2.0"),
        ("s7/stdlib-8m", "stdlib", "PSF-2.0"),
    ],
)
def test_proofs_read_one_source(name, kind, licence):
    demo = load_recipe(recipe_paths()[name])
    assert [source.kind for source in demo.corpus.sources] == [kind]
    assert licence in demo.corpus.licences
    assert len(demo.seal.sample_prompts) == 3
    assert demo.quantize.max_bpb_increase == 0.002
    assert demo.quantize.min_top1_agreement >= 0.975


def test_names_resolve(tmp_path):
    path = recipe_paths()["s7/demo-1m"]
    for text in ("demo-1m", "s7/demo-1m", str(path)):
        assert resolve_recipe_path(text) == path
    with pytest.raises(UsageError, match="did you mean 'demo-1m'"):
        resolve_recipe_path("demo1m")
    with pytest.raises(UsageError, match="no recipe"):
        resolve_recipe_path("a\0b")
    with pytest.raises(UsageError, match="no recipe"):
        resolve_recipe_path("_family")
    with pytest.raises(StorageError, match="no such recipe"):
        resolve_recipe_path(str(tmp_path / "none.yaml"))


def test_an_ambiguous_name_lists_its_meanings(monkeypatch):
    from sevenfold.recipe import shipped

    path = recipe_paths()["s7/demo-1m"]
    monkeypatch.setattr(shipped, "recipe_paths", lambda: {"s7/one": path, "slm/one": path})
    with pytest.raises(UsageError, match="choose one of s7/one, slm/one"):
        shipped.resolve_recipe_path("one")


def test_an_installation_without_recipes_says_so(monkeypatch, tmp_path):
    from sevenfold.recipe import shipped

    monkeypatch.setattr(shipped, "__file__", str(tmp_path / "a" / "b" / "c" / "shipped.py"))
    monkeypatch.setattr(shipped, "files", lambda _: tmp_path)
    with pytest.raises(StorageError, match="recipes are not installed"):
        shipped.recipes_directory()
    (tmp_path / shipped.PACKAGED).mkdir()
    assert shipped.recipes_directory() == tmp_path / shipped.PACKAGED
