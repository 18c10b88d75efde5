// How an image lies, by its EXIF data (eXIf) or what Adobe's programs write (XMP).
#ifndef LDM_SRC_PNG_ORIENTATION_H
#define LDM_SRC_PNG_ORIENTATION_H

#include <string_view>

#include "src/png/png.h"

namespace ldm::png {

// The orientation that EXIF data say, 1 to 8; 0: none. False: these are no EXIF data.
bool exif_orientation(Bytes exif, int& out);

// The orientation in an XMP packet; 0: none.
int xmp_orientation(std::string_view packet);

}  // namespace ldm::png

#endif
