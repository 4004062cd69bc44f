/* status.c - statuses in words. */
#include "seam.h"

const char *lanyard_status_text(lanyard_status status) {
  switch (status) {
    case LANYARD_OK: return "ok";
    case LANYARD_FULL: return "the ring is full";
    case LANYARD_CLOSED: return "the worker is closed";
    case LANYARD_CLOSING: return "closing has begun; its end cannot be waited for on the worker's own thread";
    case LANYARD_CANCELLED: return "the request was cancelled before it started";
    case LANYARD_TOO_LATE: return "the request has already started or was answered";
    case LANYARD_TIMED_OUT: return "the deadline passed";
    case LANYARD_WOULD_DEADLOCK: return "the calling thread would wait for itself";
    case LANYARD_FORKED: return "the worker belongs to the parent process";
    case LANYARD_NO_MEMORY: return "out of memory";
    case LANYARD_NO_THREAD: return "the system refused to start a thread";
    case LANYARD_INVALID: return "an argument is invalid";
  }
  return "unknown status";
}

unsigned lanyard_version(void) {
  return LANYARD_VERSION_MAJOR << 16 | LANYARD_VERSION_MINOR << 8 | LANYARD_VERSION_PATCH;
}
