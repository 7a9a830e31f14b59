// Runs a `.pte` program by ExecuTorch's C++ runtime, for processes without torch.
#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor_ptr_maker.h>

#include <cstdint>

using namespace executorch;

extern "C" void* pte_open(const char* path) {
  auto* module = new extension::Module(path);
  if (module->load_forward() == runtime::Error::Ok) return module;
  delete module;
  return nullptr;
}

// One text: `inputs[i]` int64 [1, length]. `outputs[i]` is set to float32 values that the next call writes over, `sizes[i]` to their
// number. Returns the runtime's error, 0 where there is none.
extern "C" int pte_run(void* handle, int64_t* const* inputs, int count, int length, const float** outputs, int64_t* sizes) {
  std::vector<extension::TensorPtr> held;
  std::vector<runtime::EValue> values;
  for (int i = 0; i < count; ++i) {
    held.push_back(extension::from_blob(inputs[i], {1, length}, aten::ScalarType::Long));
    values.emplace_back(held.back());
  }
  const auto result = static_cast<extension::Module*>(handle)->forward(values);
  if (!result.ok()) return static_cast<int>(result.error());
  for (const auto& value : *result) {
    const auto& tensor = value.toTensor();
    *outputs++ = tensor.const_data_ptr<float>();
    *sizes++ = tensor.numel();
  }
  return 0;
}
