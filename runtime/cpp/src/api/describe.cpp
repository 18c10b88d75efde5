// What a package is, and whether an image can go where it shall.
#include "src/api/handles.h"

#include "src/files/atomic.h"
#include "src/package/open.h"
#include "src/verify/describe.h"

using namespace ldm;

ldm_status ldm_package_describe(ldm_context* context, ldm_package* package, int32_t as_json, const char** text) {
    if (text != nullptr) *text = nullptr;
    return api::called(context, [&](Scope& scope) {
        if (package == nullptr || package->opened == nullptr || text == nullptr) {
            return api::misused(scope,
                                {"ldm_package_describe needs a package that was opened from a folder, and a place "
                                 "for the text"});
        }
        LDM_TRY(verify::describe(scope, *package->opened, as_json != 0, context->description));
        *text = context->description.data();
        return Status();
    });
}

ldm_status ldm_check_output(ldm_context* context, const char* path, int32_t force) {
    return api::called(context, [&](Scope& scope) {
        if (path == nullptr) return api::misused(scope, {"ldm_check_output needs a path"});
        return files::refuse_existing(scope, path, force != 0 ? files::Existing::replace : files::Existing::keep);
    });
}
