"""Texts to tokens against transformers' own tokenizers, on vocabularies trained here, and what
broken or foreign files say."""

import io
import json

import numpy as np
import pytest

from jaxle.models import tokenizers

TEXTS = [
    "A photo of a RED square!",
    "dog's bed, and more…",
    "  two   spaces\tand\na tab ",
    "",
    "!?",
    "a cat",
    "blue " * 40,
    "Zürich, ÉTÉ",
]
WORDS = [
    "a photo of a red square on a blue background",
    "zürich: the dog's bed is warm, été after été",
    "two spaces and a cat",
] * 30


@pytest.fixture(scope="module")
def spiece(tmp_path_factory):
    """A folder with a sentencepiece model of T5's special tokens, as SigLIP's has."""
    import sentencepiece

    held = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(WORDS),
        model_writer=held,
        vocab_size=90,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    folder = tmp_path_factory.mktemp("siglip")
    (folder / "spiece.model").write_bytes(held.getvalue())
    return folder


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    """A folder with Gemma's kind of tokenizer.json: byte-pair encoding with byte fallback, spaces
    as "▁"."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    trained = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"] + [
        f"<0x{byte:02X}>" for byte in range(256)
    ]
    trained.train_from_iterator(
        [text.lower() for text in WORDS],
        trainers.BpeTrainer(vocab_size=340, special_tokens=special),
    )
    folder = tmp_path_factory.mktemp("gemma")
    trained.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A folder with CLIP's vocab.json and merges.txt."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer, trained.pre_tokenizer = (
        normalizers.Lowercase(),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained.train_from_iterator(
        WORDS,
        trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, end_of_word_suffix="</w>"),
    )
    model = json.loads(trained.to_str())["model"]
    vocabulary = dict(model["vocab"])
    for token in [f"{letter}</w>" for letter in sorted(alphabet)] + [
        "<|startoftext|>",
        "<|endoftext|>",
    ]:
        vocabulary.setdefault(token, len(vocabulary))
    folder = tmp_path_factory.mktemp("clip")
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(" ".join(merge) for merge in model["merges"]),
        encoding="utf-8",
    )
    return folder


def padded(tokenizer, length):
    return np.array(
        tokenizer(TEXTS, padding="max_length", truncation=True, max_length=length)["input_ids"]
    )


def test_siglips_are_transformers(spiece):
    from transformers import SiglipTokenizer

    tokens = tokenizers.load_tokenizer(spiece, "siglip", 16)(TEXTS)
    assert tokens.dtype == np.int32 and tokens.shape == (len(TEXTS), 16)
    np.testing.assert_array_equal(tokens, padded(SiglipTokenizer(str(spiece / "spiece.model")), 16))
    assert (tokens[3] == 1).all() and (
        tokens[:, -1] == 1
    ).all()  # nothing but ends; the end kept where the text is cut
    np.testing.assert_array_equal(
        tokens, tokenizers.load_tokenizer(spiece / "spiece.model", "siglip", 16)(TEXTS)
    )


def test_underscores_are_spaces_as_in_big_vision(spiece):
    tokenize = tokenizers.load_tokenizer(spiece, "siglip", 16)
    np.testing.assert_array_equal(
        tokenize(["red_square", "A_Photo-of"]), tokenize(["red square", "a photoof"])
    )


@pytest.mark.parametrize("style, special", [("siglip", 1), ("siglip2", 1), ("clip", 2)])
def test_texts_longer_than_the_context_are_named(style, special, request):
    """Two names that differ after it alone are read alike."""
    folder = request.getfixturevalue({"siglip": "spiece", "siglip2": "gemma"}.get(style, style))
    long = ["a " * 30 + "red", "a " * 30 + "blue", "a"]
    whole = tokenizers.load_tokenizer(folder, style, 256)
    n = len(whole.encode(long[:1])[0])
    assert not whole.cut(long)
    exact = tokenizers.load_tokenizer(folder, style, n + special)
    assert long[0] not in exact.cut(long)
    short = tokenizers.load_tokenizer(folder, style, 20)
    assert short.cut(long) == long[:2]
    np.testing.assert_array_equal(*short(long[:2]))


def test_siglip_2s_are_transformers(gemma):
    from transformers import Siglip2Tokenizer

    model = json.loads((gemma / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    theirs = Siglip2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(merge) for merge in model["merges"]],
        padding_side="right",
    )
    expected = [(ids + [1])[:20] for ids in theirs(TEXTS, add_special_tokens=False)["input_ids"]]
    tokens = tokenizers.load_tokenizer(gemma, "siglip2", 20)(TEXTS)
    for row, ids in zip(tokens, expected, strict=True):
        if len(ids) == 20:
            ids[-1] = 1  # big_vision's "sticky" end
        assert row.tolist() == ids + [0] * (20 - len(ids))


def test_clips_are_transformers_up_to_the_end_token(clip):
    from transformers import CLIPTokenizer

    theirs = CLIPTokenizer.from_pretrained(clip, local_files_only=True)
    tokens, expected = tokenizers.load_tokenizer(clip, "clip", 24)(TEXTS), padded(theirs, 24)
    end = expected.max()
    assert end == theirs.eos_token_id
    after = np.arange(24)[None] > np.argmax(expected, axis=1)[:, None]
    np.testing.assert_array_equal(tokens, np.where(after, 0, expected))
    theirs.save_pretrained(clip / "saved")
    np.testing.assert_array_equal(
        tokens, tokenizers.load_tokenizer(clip / "saved", "clip", 24)(TEXTS)
    )


UNREADABLE = {
    # SigLIP takes punctuation out before it looks anything up; CLIP and Gemma read every byte
    "siglip": ["", "!!!", "_", "＿", "☃", "\t \n", "…", "\ue000"],
    "siglip2": ["", "\ue000"],
    "clip": ["", "\t \n", "\ue000"],
}


@pytest.mark.parametrize("style", UNREADABLE)
def test_texts_of_which_no_token_is_left(style, spiece, gemma, clip):
    tokenize = tokenizers.load_tokenizer(
        {"siglip": spiece, "siglip2": gemma, "clip": clip}[style], style, 16
    )
    texts = [
        "a cat",
        "",
        "!!!",
        "_",
        "＿",
        "☃",
        "\t \n",
        "…",
        "\ue000",
        "red !!!",
        "a ☃",
        "blue " * 40,
        "été",
    ]
    assert tokenizers.unreadable(tokenize, texts) == UNREADABLE[style]
    assert tokenizers.unreadable(tokenize, []) == []
    assert tokenizers.unreadable(tokenize, texts[::-1]) == UNREADABLE[style][::-1]


def test_what_is_wrong_is_one_sentence(spiece, gemma, clip, tmp_path):
    load = tokenizers.load_tokenizer
    with pytest.raises(
        ValueError, match="unknown tokenizer style 'bert'; valid styles: siglip, siglip2, clip"
    ):
        load(spiece, "bert", 16)
    with pytest.raises(
        ValueError, match="holds no tokenizer; expected one of spiece.model, sentencepiece.model"
    ):
        load(tmp_path, "siglip", 16)
    with pytest.raises(ValueError, match="has no token '<eos>'; it is not of style 'siglip2'"):
        load(spiece / "spiece.model", "siglip2", 16)
    with pytest.raises(ValueError, match=r"has no token '<\|startoftext\|>'"):
        load(gemma, "clip", 16)
    for name, damage in {
        "spiece.model": (spiece / "spiece.model").read_bytes()[:1000],
        "tokenizer.json": b'{"version": ',
    }.items():
        (tmp_path / name).write_bytes(damage)
        with pytest.raises(
            ValueError, match=f"{name} cannot be read, it may be damaged or truncated"
        ):
            load(tmp_path / name, "siglip", 16)
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="is not a tokenizer of Hugging Face"):
        load(tmp_path / "tokenizer.json", "clip", 16)
    (tmp_path / "vocab.json").write_bytes((clip / "vocab.json").read_bytes())
    with pytest.raises(ValueError, match="needs its merges.txt beside it"):
        load(tmp_path / "vocab.json", "clip", 16)
    with pytest.raises(ValueError, match="suffix '.txt'; readable are .model and .json"):
        load(clip / "merges.txt", "clip", 16)
    with pytest.raises(ValueError, match="tokenizer /nowhere/x.model does not exist"):
        load("/nowhere/x.model", "siglip", 16)


def test_offline_names_the_file_to_bring(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        ConnectionError,
        match="bring spiece.model from https://huggingface.co/some/siglip "
        "and put it into the folder of the weights",
    ):
        tokenizers.load_tokenizer("some/siglip@abc", "siglip", 64)
    with pytest.raises(
        ConnectionError, match="bring tokenizer.json from https://huggingface.co/some/clip and"
    ):
        tokenizers.load_tokenizer("some/clip", "clip", 77)
