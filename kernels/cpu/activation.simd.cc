#include "activation.simd.h"

namespace headway::HEADWAY_ISA {

const ActivationTable activation_table = {activate};

}  // namespace headway::HEADWAY_ISA
