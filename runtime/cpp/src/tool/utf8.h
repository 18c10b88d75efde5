// The arguments of a program as UTF-8, which the library speaks.
#ifndef LDM_TOOL_UTF8_H
#define LDM_TOOL_UTF8_H

namespace ldm::tool {

// What `main` was given, in UTF-8; the terminal is told that it gets that too. Windows has a code page of its own for
// both, everywhere else nothing changes.
char** in_utf8(int& count, char** given);

}  // namespace ldm::tool

#endif
