"""Random weights in the layouts that the preprocessors' networks are read from: for what they cost, not for what they see."""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from danqing import torchvision_shim as torchvision_shim  # before controlnet_aux


def _hed() -> Any:
    from controlnet_aux.hed import ControlNetHED_Apache2

    return ControlNetHED_Apache2().state_dict()


def _pidinet() -> Any:
    from controlnet_aux.pidi.model import pidinet

    return {"state_dict": {f"module.{key}": value for key, value in pidinet().state_dict().items()}}


def _mlsd() -> Any:
    from controlnet_aux.mlsd.models.mbv2_mlsd_large import MobileV2_MLSD_Large

    return MobileV2_MLSD_Large().state_dict()


def _midas() -> Any:
    from controlnet_aux.midas.midas.dpt_depth import DPTDepthModel

    return DPTDepthModel(path=None, backbone="vitb_rn50_384", non_negative=True).state_dict()


def _normal_bae() -> Any:
    from controlnet_aux.normalbae.nets.NNET import NNET

    wanted = {"mode": "client", "architecture": "BN", "pretrained": "scannet"}
    return {"model": NNET(types.SimpleNamespace(**wanted, sampling_ratio=0.4, importance_ratio=0.7)).state_dict()}


def _zoe() -> Any:
    from controlnet_aux.zoe.zoedepth.models.zoedepth.zoedepth_v1 import ZoeDepth
    from controlnet_aux.zoe.zoedepth.utils.config import get_config

    return {"model": ZoeDepth.build_from_config(get_config("zoedepth", "infer")).state_dict()}


def _leres() -> Any:
    from controlnet_aux.leres.leres.multi_depth_model_woauxi import RelDepthModel

    state = RelDepthModel(backbone="resnext101").state_dict()
    return {"depth_model": {f"module.{key}": value for key, value in state.items()}}


def _pix2pix() -> Any:
    from controlnet_aux.leres.pix2pix.models.pix2pix4depth_model import Pix2Pix4DepthModel
    from controlnet_aux.leres.pix2pix.options.test_options import TestOptions

    arguments, sys.argv = sys.argv, sys.argv[:1]
    try:
        options = TestOptions().parse()
    finally:
        sys.argv = arguments
    options.gpu_ids = []
    return Pix2Pix4DepthModel(options).netG.state_dict()


def _lineart() -> Any:
    from controlnet_aux.lineart import Generator

    return Generator(3, 1, 3).state_dict()


def _lineart_anime() -> Any:
    import functools

    from controlnet_aux.lineart_anime import UnetGenerator
    from torch import nn

    layer = functools.partial(nn.InstanceNorm2d, affine=False, track_running_stats=False)
    return UnetGenerator(3, 1, 8, 64, norm_layer=layer, use_dropout=False).state_dict()


def _teed() -> Any:
    from controlnet_aux.teed.ted import TED

    return TED().state_dict()


def _sam() -> Any:
    from controlnet_aux.segment_anything.build_sam import build_sam_vit_t

    return build_sam_vit_t(None).state_dict()


def _body() -> Any:
    from controlnet_aux.open_pose.model import bodypose_model

    return _shortened(bodypose_model().state_dict())


def _hand() -> Any:
    from controlnet_aux.open_pose.model import handpose_model

    return _shortened(handpose_model().state_dict())


def _face() -> Any:
    from controlnet_aux.open_pose.face import FaceNet

    return FaceNet().state_dict()


def _shortened(state: Any) -> Any:
    return {name.split(".", 1)[1]: value for name, value in state.items()}


FILES: dict[str, Callable[[], Any]] = {
    "ControlNetHED.pth": _hed,
    "table5_pidinet.pth": _pidinet,
    "mlsd_large_512_fp32.pth": _mlsd,
    "dpt_hybrid-midas-501f0c75.pt": _midas,
    "scannet.pt": _normal_bae,
    "ZoeD_M12_N.pt": _zoe,
    "res101.pth": _leres,
    "latest_net_G.pth": _pix2pix,
    "sk_model.pth": _lineart,
    "sk_model2.pth": _lineart,
    "netG.pth": _lineart_anime,
    "5_model.pth": _teed,
    "MTEED.pth": _teed,
    "mobile_sam.pt": _sam,
    "body_pose_model.pth": _body,
    "hand_pose_model.pth": _hand,
    "facenet.pth": _face,
}
"""What makes each file below models/annotators."""


def write(folder: Path, names: tuple[str, ...]) -> None:
    """Put files of random weights, drawn from one seed, where the preprocessors look for them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (folder / name).is_file():
            continue
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of model registries of other packages
            torch.save(FILES[name](), folder / name)
