"""Finding and reading weight files: damaged, unsafe and missing ones are one sentence each."""

import argparse
import hashlib
import os
import pickle
import re
import zipfile

import numpy as np
import pytest
import torch
from small_towers import SPATIAL, assert_equal_states, assert_refused, save, snapshot, tower_of

from pe_dense.encoders.weights import load_weights, read_state_dict, resolve_weights


@pytest.fixture(scope="module")
def spatial():
    return snapshot(tower_of(seed=1, **SPATIAL))


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class TestReading:
    """Files that cannot be trusted or read are one sentence with the remedy."""

    def refuse(self, path, words):
        message = assert_refused(tower_of(**SPATIAL), path, words)
        with pytest.raises(ValueError, match=re.escape(message)):
            read_state_dict(path)
        return message

    @pytest.mark.parametrize("kind", ["archive", "old", "pickle", "pickle4"])
    def test_pickled_code(self, tmp_path, spatial, kind):
        path, mark = tmp_path / "a.pt", tmp_path / "executed"
        content = {"state_dict": spatial, "hook": Trap(mark)}
        if kind.startswith("pickle"):
            path.write_bytes(pickle.dumps(Trap(mark), protocol=4 if kind == "pickle4" else 2))
        else:
            torch.save(content, path, _use_new_zipfile_serialization=kind == "archive")
        message = self.refuse(path, "objects other than tensors.*could run code; re-save")
        assert not mark.exists()
        if kind in ("archive", "old"):
            assert "posix.mkdir" in message or "nt.mkdir" in message

    def test_whole_model(self, tmp_path):
        torch.save(tower_of(**SPATIAL), tmp_path / "a.pt")
        message = self.refuse(tmp_path / "a.pt", "objects other than tensors")
        assert "PerceptionEncoder" in message

    def test_settings_and_histories_beside_the_tensors(self, tmp_path, spatial):
        """Detection files hold a Namespace, OpenMMLab files histories of numpy numbers."""
        settings = argparse.Namespace(lr=0.1, names=["a"], nested=argparse.Namespace(x=1))
        content = {
            "model": spatial,
            "args": settings,
            "score": np.float64(0.5),
            "losses": np.arange(5.0),
            "steps": np.arange(3),
        }
        path = save(tmp_path / "a.pth", content)
        tower = tower_of(**SPATIAL)
        load_weights(tower, path)
        assert_equal_states(tower.state_dict(), spatial)
        assert_equal_states(read_state_dict(path), spatial)

    def test_runner_checkpoint(self, tmp_path, spatial):
        buffers = pytest.importorskip("mmengine.logging.history_buffer")
        history = buffers.HistoryBuffer([1.0, 2.0], [1, 1])
        content = {
            "meta": {"epoch": 1, "cfg": "model = 1"},
            "message_hub": {"log_scalars": {"loss": history}},
            "state_dict": {f"backbone.encoder.{key}": value for key, value in spatial.items()},
        }
        tower = tower_of(**SPATIAL)
        load_weights(tower, save(tmp_path / "epoch_1.pth", content))
        assert_equal_states(tower.state_dict(), spatial)

    @pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
    @pytest.mark.parametrize("keep", [0.0, 0.001, 0.3, 0.99])
    def test_truncated(self, tmp_path, spatial, name, keep):
        path = save(tmp_path / name, spatial)
        content = path.read_bytes()
        path.write_bytes(content[: int(keep * len(content))])
        self.refuse(path, "damaged.*download or copy it again")

    def test_truncated_file_of_the_old_kind(self, tmp_path, spatial):
        path = tmp_path / "a.pt"
        torch.save(spatial, path, _use_new_zipfile_serialization=False)
        for keep in (0.05, 0.5, 0.99):
            torch.save(spatial, path, _use_new_zipfile_serialization=False)
            content = path.read_bytes()
            path.write_bytes(content[: int(keep * len(content))])
            self.refuse(path, "damaged|refused")

    @pytest.mark.parametrize(
        "content",
        [b"<html>404 not found</html>", b"PK\x03\x04 and nothing else", b"version https://git-lfs"],
    )
    def test_no_checkpoint(self, tmp_path, content):
        for name in ("a.pt", "a.safetensors"):
            (tmp_path / name).write_bytes(content)
            self.refuse(tmp_path / name, "damaged.*again")

    def test_damaged_archives(self, tmp_path, spatial):
        """Bytes overwritten at the front, and an archive of something else."""
        path = save(tmp_path / "a.pt", spatial)
        content = bytearray(path.read_bytes())
        content[60:600] = b"x" * 540
        path.write_bytes(content)
        self.refuse(path, "damaged|refused")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/notes.txt", "no tensors")
        self.refuse(path, "damaged or no torch checkpoint")

    @pytest.mark.filterwarnings("ignore")
    def test_torchscript(self, tmp_path):
        module = torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2))
        module.save(str(tmp_path / "a.pt"))
        self.refuse(tmp_path / "a.pt", "TorchScript archive, which holds code; re-save")

    def test_no_mapping_of_tensors(self, tmp_path):
        self.refuse(save(tmp_path / "a.pt", [torch.ones(2)]), "holds a list")
        self.refuse(save(tmp_path / "a.pt", {"weights": {"a": 1}}), r"not a mapping.*\(see a\)")
        self.refuse(save(tmp_path / "a.pt", {}), "no tensor at all")

    def test_other_network(self, tmp_path):
        path = save(tmp_path / "a.pt", {"fc.weight": torch.ones(2, 2)})
        assert_refused(tower_of(**SPATIAL), path, r"holds no PE vision tower .*fc\.weight")

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
    def test_no_permission(self, tmp_path, spatial):
        path = save(tmp_path / "a.pt", spatial)
        path.chmod(0)
        with pytest.raises(ValueError, match=r"a\.pt cannot be read: Permission denied"):
            read_state_dict(path)


class TestResolve:
    """Names become files; what cannot be found says what to do."""

    def test_path(self, tmp_path, monkeypatch):
        (tmp_path / "a.pt").write_bytes(b"x")
        assert resolve_weights(str(tmp_path / "a.pt")) == tmp_path / "a.pt"
        monkeypatch.setenv("HOME", str(tmp_path))
        assert resolve_weights("~/a.pt") == tmp_path / "a.pt"

    def test_missing_file(self, tmp_path):
        with pytest.raises(ValueError, match=r"nothing\.pt does not exist; give the path of"):
            resolve_weights(tmp_path / "nothing.pt")
        with pytest.raises(ValueError, match="is a folder"):
            resolve_weights(tmp_path)

    @pytest.mark.parametrize(
        "name", ["pe_spatial_b16_512", "PE-Spatial-B16-512", "facebook/PE-Spatial-B16-512.pt"]
    )
    def test_name_without_the_hub_prefix(self, name):
        with pytest.raises(ValueError, match="hf://facebook/PE-Spatial-B16-512:PE-Spatial-B16"):
            resolve_weights(name)

    @pytest.mark.parametrize(
        ("name", "repo", "file", "revision"),
        [
            ("hf://facebook/PE-Core-B16-224", "PE-Core-B16-224", "PE-Core-B16-224.pt", None),
            ("hf://facebook/PE-Core-G14-448:", "PE-Core-G14-448", "PE-Core-G14-448.pt", None),
            ("hf://facebook/PE-Detection:a_b.pth", "PE-Detection", "a_b.pth", None),
            ("hf://facebook/PE-Detection@0a1b:a.pth", "PE-Detection", "a.pth", "0a1b"),
            ("hf://facebook/PE-Core-B16-224@main", "PE-Core-B16-224", "PE-Core-B16-224.pt", "main"),
        ],
    )
    def test_hub_names(self, tmp_path, monkeypatch, spatial, name, repo, file, revision):
        path = save(tmp_path / "blob.pt", spatial)
        calls = []

        def download(**arguments):
            calls.append(arguments)
            return str(path)

        monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
        assert resolve_weights(name) == path
        assert calls == [dict(repo_id=f"facebook/{repo}", filename=file, revision=revision)]
        info = load_weights(tower_of(**SPATIAL), name)
        assert info.source == name
        assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()

    @pytest.mark.parametrize(
        "name", ["hf://facebook", "hf://", "hf://a/b/c", "hf:///b", "hf://a/", "hf://a/b@:c"]
    )
    def test_no_hub_name(self, name):
        with pytest.raises(ValueError, match="is no hub name; write hf://owner/repo"):
            resolve_weights(name)

    def test_other_owners_need_a_file(self):
        with pytest.raises(ValueError, match=r"write hf://timm/vit:FILE"):
            resolve_weights("hf://timm/vit")

    def test_offline(self, tmp_path, monkeypatch):
        """The real hub client, told to stay offline, with an empty cache."""
        constants = pytest.importorskip("huggingface_hub.constants")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(
            "huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False
        )
        with pytest.raises(ValueError, match="cannot be loaded") as caught:
            resolve_weights("hf://facebook/PE-Spatial-B16-512")
        message = str(caught.value)
        assert message == (
            "hf://facebook/PE-Spatial-B16-512:PE-Spatial-B16-512.pt cannot be loaded: it is not "
            "in the local cache and the hub cannot be reached; start without trained weights with "
            "--weights random, or give a file that was downloaded elsewhere with --weights FILE; "
            "HF_ENDPOINT=URL names a mirror, and HF_HUB_OFFLINE=1 takes what is in the cache "
            "without asking"
        )

    def test_other_failures_of_the_hub(self, monkeypatch):
        def fail(**arguments):
            raise RuntimeError("connection reset\nlong story")

        monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
        with pytest.raises(ValueError, match=r"the download failed \(connection reset\); try"):
            resolve_weights("hf://facebook/PE-Spatial-B16-512")

    @pytest.mark.parametrize("kind", ["EntryNotFoundError", "RepositoryNotFoundError"])
    def test_what_the_hub_does_not_have(self, monkeypatch, kind):
        errors = pytest.importorskip("huggingface_hub.errors")
        error = getattr(errors, kind)

        def fail(**arguments):
            raise error.__new__(error)

        monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
        with pytest.raises(ValueError, match=r"has no file a\.pt; name|no such repository.*log in"):
            resolve_weights("hf://facebook/PE-Detection:a.pt")

    def test_damaged_cache_is_noticed(self, tmp_path, monkeypatch, spatial):
        """The cache names a large file by its sha256."""
        good = save(tmp_path / "a.pt", spatial)
        blob = tmp_path / hashlib.sha256(good.read_bytes()).hexdigest()
        blob.write_bytes(good.read_bytes())
        link = tmp_path / "link.pt"
        link.symlink_to(blob)
        monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda **arguments: str(link))
        tower = tower_of(**SPATIAL)
        assert load_weights(tower, "hf://facebook/A").sha256 == blob.name
        content = bytearray(blob.read_bytes())
        content[len(content) // 2] ^= 1
        blob.write_bytes(content)
        before = snapshot(tower)
        with pytest.raises(ValueError, match=r"cached copy of hf://facebook/A is damaged.*delete"):
            load_weights(tower, "hf://facebook/A")
        assert_equal_states(tower.state_dict(), before)
