/* What killed processes left in a run's folder. */
#ifndef BLY_RUN_SWEEP_H
#define BLY_RUN_SWEEP_H

/* Removes the folder of a save that was killed, where no save is going on, and temporary files of
 * belay's own (bly_file_write_atomic() makes them) that nobody can be writing any more: ten minutes
 * old, and not of another process that is there. For the holder of
 * the folder's lock, just after taking it. What cannot be removed is left, with a warning. */
void bly_sweep(const char *folder);

#endif
