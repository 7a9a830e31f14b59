// What the ops of linear layers check of their inputs.
#pragma once

#include "op.h"

namespace headway {

inline Shape with_last(Shape shape, int64_t size) {
  shape.back() = size;
  return shape;
}

template <class T>
Tensor<T> checked(Tensor<T> x, int64_t inputs) {
  if (x.shape.empty() || x.shape.back() != inputs)
    throw Error("input 'x' of shape " + to_string(x.shape) + " does not end in the weight's " + std::to_string(inputs) + " inputs");
  return x;
}

inline void check_residual(const Tensor<float>& residual, const Shape& shape) {
  if (residual && residual.shape != shape)
    throw Error("input 'residual' of shape " + to_string(residual.shape) + " is not of the output's shape " + to_string(shape));
}

}  // namespace headway
