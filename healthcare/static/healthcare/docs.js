"use strict";

SwaggerUIBundle({
  url: document.getElementById("swagger-ui").dataset.schema,
  dom_id: "#swagger-ui",
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  displayRequestDuration: true,
  filter: true,
  // A token lives in the page only, never in the browser's storage.
  persistAuthorization: false,
  // The schema is never sent to somebody else's validator.
  validatorUrl: null,
});
