"""A small world to train in: two artificial languages, a byte-level BPE, a Llama of a few thousand weights."""

from __future__ import annotations

import gc
import json
import os
import random
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

pytest.importorskip("transformers")
pytest.importorskip("datasets")
pytest.importorskip("peft")

from jobs_ray.lm import Domain, Model, Session, Task

TINY = {
    "model_type": "llama",
    "hidden_size": 32,
    "head_dim": 16,
    "num_hidden_layers": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}


def sentences(words: list[str], count: int, seed: int) -> list[dict[str, str]]:
    rng = random.Random(seed)
    return [{"text": " ".join(rng.choices(words, k=rng.randint(5, 30))) + "."} for _ in range(count)]


ANIMALS = [
    "the",
    "cat",
    "dog",
    "bird",
    "sees",
    "hears",
    "a",
    "fox",
    "runs",
    "from",
    "over",
    "wolf",
    "and",
    "mouse",
    "eats",
]
NUMBERS = ["one", "plus", "two", "equals", "three", "minus", "four", "times", "five", "is", "six", "zero", "nine"]


class SharedRay:
    """Two Ray nodes of one CPU each, with a dashboard, for all modules of this folder: a start takes 10 to 20 s."""

    ENVIRONMENT: ClassVar[dict[str, str]] = {
        "PYTHONPATH": f"{Path(__file__).parents[2]}{os.pathsep}{Path(__file__).parent}",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    }

    def __init__(self) -> None:
        self.nodes: Any = None

    def start(self) -> Any:
        """Connects this process to them; they are started, unless they run."""
        import ray
        from ray.cluster_utils import Cluster

        if self.nodes is None:
            ray.shutdown()
            with socket.socket() as free:  # Cluster takes the default port for granted; other Rays may run here
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            with pytest.MonkeyPatch.context() as patch:
                # in the nodes' own environment, not in a runtime_env: workers started ahead would be of no use to that
                for name, value in self.ENVIRONMENT.items():
                    patch.setenv(name, value)
                head = {"num_cpus": 1, "include_dashboard": True, "dashboard_port": port}
                self.nodes = Cluster(initialize_head=True, head_node_args=head)
                self.nodes.add_node(num_cpus=1)
            ray.init(address=self.nodes.address, log_to_driver=False, configure_logging=False)
        return self.nodes

    def stop(self) -> None:
        """Ends them, and the connection of this process to any other Ray."""
        if "ray" in sys.modules:
            with warnings.catch_warnings():
                warnings.simplefilter("default")  # Ray leaves files and sockets open
                sys.modules["ray"].shutdown()
                if self.nodes is not None:
                    self.nodes.shutdown()
                self.nodes = None
                gc.collect()


@pytest.fixture(autouse=True)
def environment_stays() -> Iterator[None]:
    """What a test leaves in this process' environment, later ones fail of."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    yield
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == before


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[SharedRay]:
    shared = SharedRay()
    yield shared
    shared.stop()


@pytest.fixture(scope="module", autouse=True)
def no_other_ray(shared_ray: SharedRay) -> None:
    """In one process with tests/tune, whose Ray stays until the session ends, the modules here have their own."""
    if shared_ray.nodes is None:
        shared_ray.stop()


@pytest.fixture(scope="module")
def cluster(shared_ray: SharedRay) -> Any:
    """Two Ray nodes of one CPU each; `cluster.address` is their address."""
    return shared_ray.start()


@pytest.fixture
def no_ray(shared_ray: SharedRay) -> None:
    """For a test that starts its own."""
    shared_ray.stop()


@pytest.fixture(scope="session")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    texts = [r["text"] for r in sentences(ANIMALS, 200, 0) + sentences(NUMBERS, 200, 1)]
    bpe.train_from_iterator(texts, vocab_size=300, special_tokens=["<s>", "</s>"], show_progress=False)
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token="</s>", pad_token="</s>")
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def with_begin(tokenizer_dir: Path) -> Any:
    """A tokenizer that writes <s> before every text, as Llama's."""
    from tokenizers import processors

    from jobs_ray.lm.model import load_tokenizer

    tokenizer = load_tokenizer(Model(config={"model_type": "llama"}, tokenizer=str(tokenizer_dir)))
    tokenizer.bos_token = "<s>"
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    return tokenizer


@pytest.fixture(scope="session")
def lm_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lm-cache")


@pytest.fixture(scope="session")
def make_task(tokenizer_dir: Path, lm_cache: Path) -> Callable[..., Task]:
    """A task over two domains; keyword arguments replace its fields."""

    def make(**changes: Any) -> Task:
        fields: dict[str, Any] = {
            "domains": {
                "animals": Domain(sentences(ANIMALS, 120, 2), held_out=0.1),
                "numbers": Domain(sentences(NUMBERS, 80, 3)),
            },
            "model": Model(config=TINY, tokenizer=str(tokenizer_dir)),
            "max_steps": 12,
            "eval_every": 3,
            "batch_size": 4,
            "seq_len": 32,
            "cache_dir": str(lm_cache),
            "lr": 3e-3,
            "eval_rows": 16,
            "threads": 1,
        }
        fields.update(changes)
        if "target" not in fields:
            fields["target"] = {"animals": fields["domains"]["animals"].validation()}
        return Task(**fields)

    return make


@pytest.fixture(scope="session")
def base_dir(make_task: Callable[..., Task], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 'pretrained' model: the tiny Llama with its tokenizer, saved as a folder."""
    session = Session(make_task())
    folder = tmp_path_factory.mktemp("base")
    session.models.build({}, seed=0).save_pretrained(folder)
    session.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def untouched_threads() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before


HARNESS_TASK = """
task: animals_or_numbers
dataset_path: json
dataset_kwargs:
  data_files: {{validation: {data}}}
output_type: multiple_choice
validation_split: validation
doc_to_text: "{{{{start}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{label}}}}"
metric_list:
  - metric: acc
  - metric: acc_norm
"""


@pytest.fixture(scope="session")
def harness_tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a task of lm-evaluation-harness, `animals_or_numbers`: how does a sentence go on? 20 documents."""
    rng = random.Random(7)
    rows = []
    for i in range(20):
        kinds = [ANIMALS, NUMBERS]
        start = " ".join(rng.choices(kinds[i % 2], k=4))
        choices = [" ".join(rng.choices(words, k=3)) for words in kinds]
        rows.append({"start": start, "choices": choices, "label": i % 2})
    folder = tmp_path_factory.mktemp("harness")
    data = folder / "data.jsonl"
    data.write_text("\n".join(json.dumps(row) for row in rows))
    tasks = folder / "tasks"
    tasks.mkdir()
    (tasks / "own.yaml").write_text(HARNESS_TASK.format(data=data))
    return tasks
