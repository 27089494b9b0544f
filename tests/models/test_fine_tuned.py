"""A fine-tuned checkpoint of ten classes, as transformers saves it, loads as it is.

Under the name of the network that it was tuned from: full shapes, torch's logits, its classes.
"""

import numpy as np
import pytest

from jaxle.models import zoo
from jaxle.models.declared import Declared

LABELS = {i: f"class {i}" for i in range(10)}
PICTURE = np.random.default_rng(0).integers(0, 256, (1, 250, 300, 3), dtype=np.uint8)
# Name in the zoo → transformers' network, whose default shape it has, and what differs.
TUNED = {
    "vit_base_patch16_224": ("ViT", {"layer_norm_eps": 1e-6}),
    "resnet50_imagenet": ("ResNet", {}),
    "convnext_tiny_imagenet": ("ConvNext", {"layer_norm_eps": 1e-3}),
}


@pytest.mark.parametrize("name", TUNED)
def test_ten_classes(parity, torch, tmp_path, name):
    import transformers

    kind, fields = TUNED[name]
    config = getattr(transformers, f"{kind}Config")(num_labels=10, id2label=LABELS, **fields)
    net = getattr(transformers, f"{kind}ForImageClassification")(config)
    parity.randomise(torch, net).save_pretrained(tmp_path)
    model = zoo.load_model(name, tmp_path)
    assert model.class_names == tuple(LABELS.values())
    pixels = np.array(model.preprocess.normalise(model.preprocess.fit(PICTURE[0])[None]))
    with torch.no_grad():
        expected = net(torch.tensor(pixels).permute(0, 3, 1, 2)).logits.numpy()
    share = parity.close(model.logits(PICTURE), expected, 1e-5)
    print(f"\n{name}, ten classes: logits {share:.1e} of the scale")


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("vit_base_patch16_224", {"patch_size": 32}, "patch_size 32, and the network has 16"),
        ("resnet50_imagenet", {"downsample_in_bottleneck": True}, "downsample_in_bottleneck True"),
        ("convnext_tiny_imagenet", {"hidden_act": "relu"}, "hidden_act 'relu'; expected one of"),
    ],
)
def test_what_the_network_does_not_compute_is_refused(name, fields, message):
    kind = TUNED[name][0].lower()
    with pytest.raises(ValueError, match=f"config.json beside weights w has {message}"):
        zoo.ZOO[name].adapt(Declared("w", config={"model_type": kind, **fields}))
