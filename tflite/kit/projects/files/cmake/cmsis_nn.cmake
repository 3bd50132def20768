
# CMSIS-NN's kernels, which the program calls where they take fewer instructions (README.md).
set(CMSIS_NN_DIR "" CACHE PATH "Sources of CMSIS-NN; empty: the program's own kernels")
if(NOT TARGET kernels)  # another network of the same build may have made it
  add_library(kernels INTERFACE)
  if(CMSIS_NN_DIR)
    if(NOT EXISTS "${CMSIS_NN_DIR}/Include/arm_nnfunctions.h")
      message(FATAL_ERROR "CMSIS_NN_DIR must be a folder of CMSIS-NN, with Include and Source. "
        "Received: CMSIS_NN_DIR=${CMSIS_NN_DIR}")
    endif()
    file(GLOB cmsis_nn_sources ${CMSIS_NN_DIR}/Source/*/*.c)
    list(FILTER cmsis_nn_sources EXCLUDE REGEX "f(16|32)[^/]*$")
    add_library(cmsis_nn STATIC ${cmsis_nn_sources})
    target_include_directories(cmsis_nn SYSTEM PUBLIC ${CMSIS_NN_DIR}/Include)
    target_compile_options(cmsis_nn PRIVATE -w)
    target_compile_definitions(kernels INTERFACE WAVEMIX_CMSIS_NN)  # for every file that includes the program's header
    target_link_libraries(kernels INTERFACE cmsis_nn)
  endif()
endif()
