/* The admin: what its widgets lack. A file of its own, because the content security policy allows no inline script. */
"use strict";
