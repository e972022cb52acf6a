/* Signals that end a command. They are blocked before TensorFlow is loaded, so that its threads
 * inherit the mask, and taken by one thread of our own: an exit code of 143 or 130 holds from the
 * first millisecond. */
#ifndef CLI_SIGNALS_H
#define CLI_SIGNALS_H

#include <belay/run.h>

#include <stdint.h>

/* The first thing in main(). Returns 0 where no thread could be started. */
int cli_signals_start(void);

/* The last thing in main(): the thread ends. */
void cli_signals_end(void);

/* From now on the first signal asks instead of ending the process: `run` (NULL: none) is asked to
 * stop, and cli_signals_should_stop() answers 1. A second one of the same kind ends the process at
 * once. Returns the exit code where a signal came before, else 0. */
int cli_signals_ask(belay_training_run *run);

/* The run is about to be freed: no longer ask it. */
void cli_signals_forget(void);

/* Fits belay_should_stop. */
uint32_t cli_signals_should_stop(void *self);

/* 143, 130, or 0 where no signal came. */
int cli_signals_exit_code(void);

#endif
