"""Photographs without classes, explained by a SigLIP of full B/16 shape that transformers made:
from the files to the report, with probabilities that are transformers’ own."""

import io
import shutil

import numpy as np
from PIL import Image

from jaxle.models.tokenizers import load_tokenizer
from jaxle.pipeline import defaults
from jaxle.pipeline.load import load_run
from jaxle.pipeline.stages import STAGES
from tests import runs

WORDS = ("dog", "cat", "goldfish", "zebra", "accordion", "airplane", "panda", "lobster")


def saved_siglip(torch, folder):
    """transformers' SigLIP B/16 with random weights, saved with a vocabulary of its own."""
    import sentencepiece
    from transformers import SiglipConfig, SiglipModel

    torch.manual_seed(0)
    net = SiglipModel(SiglipConfig()).eval()  # the defaults are B/16 at 224 pixels
    with torch.no_grad():
        net.logit_scale.fill_(np.log(60.0))
        net.logit_bias.fill_(0.0)
    net.save_pretrained(folder)
    held = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(WORDS), model_writer=held, vocab_size=60, hard_vocab_limit=False,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    (folder / "spiece.model").write_bytes(held.getvalue())
    return net


def test_a_flat_folder_of_photographs(torch, test_data, tmp_path):
    net = saved_siglip(torch, tmp_path / "siglip")
    flat = tmp_path / "flat"
    flat.mkdir()
    photos = sorted((test_data / "photos").glob("*/*.jpg"))
    for path in photos:
        shutil.copy(path, flat / path.name)
    (flat / "words.txt").write_text("\n".join(WORDS))
    encoder = ("siglip_b_16_224", str(tmp_path / "siglip"))
    fields = {
        "data.source": f"folder:{flat}",
        "data.limit": 0,
        "concepts.sets": (f"file:{flat}/words.txt",),
        "fit.min_top5": 0.0,
        "methods": {"siglip": defaults.siglip(*encoder).to_dict()},
        "simulators": {"siglip": defaults.tower(*encoder).to_dict()},
        "report.megabytes": 5,
    }
    summary = runs.quick(tmp_path / "run", fields, STAGES)
    run = load_run(tmp_path / "run")
    assert len(run.names) == len(photos) == 229 and (tmp_path / "run/report/index.html").exists()
    assert [r["method"] for r in summary["results"]] == ["siglip"]
    some = np.array([0, 100, 228])
    pixels = [
        np.asarray(Image.open(flat / run.names[i]).convert("RGB").resize((224, 224), 3), np.float32)
        for i in some
    ]
    tokens = load_tokenizer(tmp_path / "siglip", "siglip", 64)(list(WORDS))
    with torch.no_grad():
        logits = net(
            pixel_values=torch.tensor(np.stack(pixels) / 127.5 - 1).permute(0, 3, 1, 2),
            input_ids=torch.tensor(np.asarray(tokens), dtype=torch.long),
        ).logits_per_image.numpy()
    matrix = run.concept_matrix("siglip")
    place = [matrix.concepts.index(word) for word in WORDS]
    expected = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(np.asarray(matrix.rows(some))[:, place], expected, atol=2e-4)
