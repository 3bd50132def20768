
# TensorFlow Lite Micro, compiled from a tree that its create_tflm_tree.py wrote (README.md). TFLM_LIBRARY: its headers,
# and a library that was built from the same revision and for the same processor.
set(TFLM_DIR "" CACHE PATH "Tree of TensorFlow Lite Micro")
set(TFLM_LIBRARY "" CACHE FILEPATH "Built library; empty: the tree is compiled")
if(NOT EXISTS "${TFLM_DIR}/tensorflow/lite/micro/micro_interpreter.h")
  message(FATAL_ERROR "TFLM_DIR must be a tree that create_tflm_tree.py wrote. Received: TFLM_DIR=${TFLM_DIR}")
endif()
if(NOT TARGET tflm)  # another network of the same build may have made it
  add_library(tflm INTERFACE)
  target_include_directories(tflm SYSTEM INTERFACE
    ${TFLM_DIR}
    ${TFLM_DIR}/third_party/flatbuffers/include
    ${TFLM_DIR}/third_party/gemmlowp
    ${TFLM_DIR}/third_party/ruy
    ${TFLM_DIR}/third_party/kissfft)
  # The first changes the layout of structs: whatever includes TensorFlow Lite Micro's headers needs it too.
  target_compile_definitions(tflm INTERFACE TF_LITE_STATIC_MEMORY TF_LITE_DISABLE_X86_NEON)
  target_compile_options(tflm INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fno-rtti -fno-exceptions>)
  if(CMAKE_SYSTEM_NAME STREQUAL "Generic")
    target_compile_definitions(tflm INTERFACE TF_LITE_STRIP_ERROR_STRINGS)
  endif()
  if(TFLM_LIBRARY)
    target_link_libraries(tflm INTERFACE ${TFLM_LIBRARY})
  else()
    file(GLOB_RECURSE tflm_sources ${TFLM_DIR}/tensorflow/*.cc ${TFLM_DIR}/third_party/cmsis_nn/Source/*.c)
    add_library(tflm_kernels STATIC ${tflm_sources})
    target_compile_definitions(tflm_kernels PRIVATE PROJECT_GENERATION)  # no clock of a certain device
    if(EXISTS ${TFLM_DIR}/third_party/cmsis_nn)
      target_include_directories(tflm_kernels SYSTEM PRIVATE
        ${TFLM_DIR}/third_party/cmsis/CMSIS/Core/Include
        ${TFLM_DIR}/third_party/cmsis_nn
        ${TFLM_DIR}/third_party/cmsis_nn/Include)
      target_compile_definitions(tflm_kernels PRIVATE CMSIS_NN ARM_NN_ENABLE_F16=0 ARM_NN_ENABLE_F32=0)
    endif()
    target_compile_options(tflm_kernels PRIVATE -w)
    target_link_libraries(tflm_kernels PRIVATE tflm)
    target_link_libraries(tflm INTERFACE tflm_kernels)
  endif()
endif()
