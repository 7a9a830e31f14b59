"""Quantizes a plain export with Optimum; texts to calibrate on come on standard input. Runs in the `optimum` environment.

python optimum_int8.py PLAIN_EXPORT TOKENIZER OUT < TEXTS
"""

import sys

from datasets import Dataset
from onnxruntime import InferenceSession
from optimum.onnxruntime import ORTQuantizer
from optimum.onnxruntime.configuration import AutoCalibrationConfig, AutoQuantizationConfig
from transformers import AutoTokenizer


def main():
    plain, tokenizer_path, out = sys.argv[1:4]
    texts = sys.stdin.read().splitlines()
    quantizer = ORTQuantizer.from_pretrained(plain, file_name="model.onnx")
    config = AutoQuantizationConfig.avx512_vnni(is_static=bool(texts), per_channel=True)
    ranges = None
    if texts:
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_path)
        names = [i.name for i in InferenceSession(f"{plain}/model.onnx").get_inputs()]
        rows = [dict(tokenizer(t, truncation=True, max_length=128, padding="max_length")) for t in texts]
        data = Dataset.from_list([{n: r[n] for n in names} for r in rows])
        ranges = quantizer.fit(
            data, AutoCalibrationConfig.minmax(data), operators_to_quantize=config.operators_to_quantize
        )
    quantizer.quantize(config, out, calibration_tensors_range=ranges)


if __name__ == "__main__":
    main()
