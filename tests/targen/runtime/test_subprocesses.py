"""What each of several processes on a node has for itself."""

import pytest

from targen.runtime.subprocesses import own_devices


@pytest.mark.parametrize(
    ("environment", "cache"),
    [
        ({"VLLM_CACHE_ROOT": "/scratch/vllm"}, "/scratch/vllm"),
        ({"XDG_CACHE_HOME": "/caches"}, "/caches/vllm"),
        ({"HOME": "/home/me"}, "/home/me/.cache/vllm"),
    ],
)
def test_engines_of_a_node_have_gpus_and_a_cache_of_their_own(
    environment: dict[str, str], cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("VLLM_CACHE_ROOT", "XDG_CACHE_HOME", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert own_devices(1, 2) == {"CUDA_VISIBLE_DEVICES": "2,3", "VLLM_CACHE_ROOT": f"{cache}/1"}
    assert own_devices(0, 0) == {"VLLM_CACHE_ROOT": f"{cache}/0"}
