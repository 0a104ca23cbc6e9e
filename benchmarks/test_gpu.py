"""Training on a CUDA GPU: utilisation, cost of LoRA and of cached embeddings against full fine-tuning, and idle time.

SAM ViT-B at 1024 px in batches of 8. Where there is no CUDA GPU, every number is reported as not measured.
"""

from __future__ import annotations

import ratios
import torch

from bench import fast_paths
from bench.perf import peaks, subject, trial
from bench.perf.performance import Performance

BACKBONE = "sam_vit_b"
UTILISATION = "GPU: full on SAM ViT-B at 1024 px, share of the bf16 matrix peak"
LORA = "GPU: a step of lora_qv against one of full"
CACHED = "GPU: images/s of cached decoder_only against full"
BUSY = "GPU: busy share of training steps (all but data and wait)"
PEAK = "GPU: peak memory of lora_qv, one image, blocks computed again"


def measured(strategy: str, *assignments: str, images: int | None = None) -> Performance:
    """Return the numbers of `bench perf` of a strategy on the GPU."""
    device = torch.device("cuda")
    (chosen,) = subject.subjects(BACKBONE, strategy, assignments=assignments, device=device, images=images)
    reached = peaks.measure_peaks(device, torch.bfloat16)
    return trial.trial(
        chosen, device=device, peaks=reached, used_paths=fast_paths.DEFAULT, loader_workers=8, rounds=2, limit_s=5
    )


def machine() -> str:
    """Return the kind of the GPU, its driver and the versions that the numbers depend on."""
    import subprocess

    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip().splitlines()
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    return f"{torch.cuda.get_device_name()}, driver {driver[0] if driver else 'unknown'}, {versions}"


def test_training_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        reason = "no CUDA device on this machine"
        ratios.report(UTILISATION, None, 0.35, detail=reason)
        ratios.report(LORA, None, 0.75, better="lower", detail=reason)
        ratios.report(CACHED, None, 8, detail=reason)
        ratios.report(BUSY, None, 0.95, detail=reason)
        ratios.report(PEAK, None, 8, unit="GB", better="lower", detail=reason)
        return
    full, lora = measured("full"), measured("lora_qv")
    cached = measured("decoder_only", "embeddings=cached")
    small = measured("lora_qv", "train.memory=checkpoint", "train.batch_size=1", images=1)
    ratios.report(UTILISATION, full.utilisation, 0.35, detail=f"{machine()}; {full.sentence}")
    ratios.report(LORA, lora.seconds / full.seconds, 0.75, better="lower", detail=lora.sentence)
    ratios.report(CACHED, cached.images_per_s / full.images_per_s, 8, detail=cached.sentence)
    step = full.step or {}
    idle = step["data"] + step["wait"]
    ratios.report(BUSY, 1 - idle / full.seconds, 0.95, detail="full, by CUDA events, loader with 8 processes")
    ratios.report(PEAK, (small.peak_bytes or 0) / 10**9, 8, unit="GB", better="lower", detail="allocated by PyTorch")
