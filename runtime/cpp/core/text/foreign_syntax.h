// Notices about the syntax of other programs in a prompt, which is words here.
#ifndef LDM_CORE_TEXT_FOREIGN_SYNTAX_H
#define LDM_CORE_TEXT_FOREIGN_SYNTAX_H

#include <string_view>

#include "core/notices.h"
#include "core/status.h"

namespace ldm {

// Add a notice for each kind that is in a prompt. syntax: "plain" or "weighted". Takes time linear in the text.
Status note_foreign_syntax(Scope& scope, std::string_view name, std::string_view prompt, std::string_view syntax,
                           Notices& notices);

}  // namespace ldm

#endif
