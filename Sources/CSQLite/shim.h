/* shim.h - SQLite for Swift, and what Swift cannot call by itself.
 *
 * lanyard_sqlite_configure     sqlite3_db_config takes variable arguments.
 * lanyard_sqlite_bind_text     SQLITE_TRANSIENT is a macro with a cast to a function pointer.
 * lanyard_sqlite_bind_blob     the same; and a null pointer would bind NULL instead of an empty value.
 */
#ifndef LANYARD_SQLITE_SHIM_H
#define LANYARD_SQLITE_SHIM_H

#include <sqlite3.h>

/* Switches one of the connection's flags (SQLITE_DBCONFIG_...) on or off. */
static inline int lanyard_sqlite_configure(sqlite3 *connection, int flag, int value) {
  return sqlite3_db_config(connection, flag, value, (int *)0);
}

/* Binds a copy of UTF-8 text. */
static inline int lanyard_sqlite_bind_text(sqlite3_stmt *statement, int index, const void *bytes,
                                           sqlite3_uint64 count) {
  return sqlite3_bind_text64(statement, index, bytes ? (const char *)bytes : "", count,
                             SQLITE_TRANSIENT, SQLITE_UTF8);
}

/* Binds a copy of bytes. */
static inline int lanyard_sqlite_bind_blob(sqlite3_stmt *statement, int index, const void *bytes,
                                           sqlite3_uint64 count) {
  return sqlite3_bind_blob64(statement, index, bytes ? bytes : "", count, SQLITE_TRANSIENT);
}

#endif
