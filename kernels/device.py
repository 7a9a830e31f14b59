"""Ask the driver for the GPU of this machine. Needs nothing but Python."""

import ctypes
import os


def architecture() -> int:
    """Return the compute capability of the current context's device, else of the first one, as 90 for sm_90.

    Raises OSError where there is no driver, RuntimeError where it has no device.
    """
    driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    device, major, minor = ctypes.c_int(0), ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0):
        raise RuntimeError("the CUDA driver finds no device")
    driver.cuCtxGetDevice(ctypes.byref(device))  # where there is no context, the first device stays
    for attribute, value in ((75, major), (76, minor)):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
        if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device):
            raise RuntimeError("the CUDA driver does not tell the compute capability")
    return 10 * major.value + minor.value
