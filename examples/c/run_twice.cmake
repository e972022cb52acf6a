# Starts train_digits twice in one folder: the second start must go on where the first one stopped.
# cmake -DPROGRAM=… -DRUN=… -P run_twice.cmake, from the top of the repository.
function(train steps expected)
  execute_process(COMMAND ${PROGRAM} ${RUN} ${steps} RESULT_VARIABLE result
                  OUTPUT_VARIABLE output ERROR_VARIABLE errors)
  message("${output}${errors}")
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "train_digits ended with ${result}")
  endif()
  if(NOT output MATCHES "${expected}")
    message(FATAL_ERROR "train_digits did not say '${expected}'")
  endif()
endfunction()

file(REMOVE_RECURSE ${RUN})
train(150 "^started at step 0\n.*stopped at step 150;")
train(300 "^resumed from step 150\n.*stopped at step 300;")
train(300 "^resumed from step 300\nstopped at step 300;")
file(GLOB checkpoint ${RUN}/model.ckpt-300.index)
if(NOT checkpoint)
  message(FATAL_ERROR "there is no checkpoint of step 300 in ${RUN}")
endif()
file(REMOVE_RECURSE ${RUN})
