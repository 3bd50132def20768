
# TensorFlow Lite Micro, compiled from a tree that its create_tflm_tree.py wrote (README.md).
set(TFLM_DIR "" CACHE PATH "Tree of TensorFlow Lite Micro")
if(NOT EXISTS "${TFLM_DIR}/tensorflow/lite/micro/micro_interpreter.h")
  message(FATAL_ERROR "TFLM_DIR must be a tree that create_tflm_tree.py wrote. Received: TFLM_DIR=${TFLM_DIR}")
endif()
file(GLOB_RECURSE tflm_sources
  ${TFLM_DIR}/tensorflow/*.cc
  ${TFLM_DIR}/third_party/cmsis_nn/Source/*.c)
add_library(tflm STATIC ${tflm_sources})
target_include_directories(tflm SYSTEM PUBLIC
  ${TFLM_DIR}
  ${TFLM_DIR}/third_party/flatbuffers/include
  ${TFLM_DIR}/third_party/gemmlowp
  ${TFLM_DIR}/third_party/ruy
  ${TFLM_DIR}/third_party/kissfft
  ${TFLM_DIR}/third_party/cmsis/CMSIS/Core/Include
  ${TFLM_DIR}/third_party/cmsis_nn
  ${TFLM_DIR}/third_party/cmsis_nn/Include)
# The first changes the layout of structs: whatever includes TensorFlow Lite Micro's headers needs it too.
target_compile_definitions(tflm PUBLIC TF_LITE_STATIC_MEMORY TF_LITE_DISABLE_X86_NEON)
target_compile_definitions(tflm PRIVATE PROJECT_GENERATION)  # no clock of a certain device
if(CMAKE_SYSTEM_NAME STREQUAL "Generic")
  target_compile_definitions(tflm PRIVATE TF_LITE_STRIP_ERROR_STRINGS)
endif()
if(EXISTS ${TFLM_DIR}/third_party/cmsis_nn)
  target_compile_definitions(tflm PUBLIC CMSIS_NN ARM_NN_ENABLE_F16=0 ARM_NN_ENABLE_F32=0)
endif()
target_compile_options(tflm PRIVATE -w)
