// Files of a package's folder that its manifest does not list, and that others might load.
#ifndef LDM_PACKAGE_UNLISTED_H
#define LDM_PACKAGE_UNLISTED_H

#include "core/package/manifest.h"
#include "core/status.h"
#include "src/files/path.h"

namespace ldm::package {

// Fail if there is a model file that the manifest does not list. Code: file.unlisted.
Status refuse_unlisted(Scope& scope, const files::Path& folder, const Manifest& manifest);

}  // namespace ldm::package

#endif
