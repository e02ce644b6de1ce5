// Swagger UI over the panel's own OpenAPI description.
(() => {
  "use strict";
  const place = document.getElementById("swagger");
  window.SwaggerUIBundle({
    url: place.dataset.spec,
    domNode: place,
    deepLinking: true,
    validatorUrl: null, // nothing leaves this panel
    docExpansion: "list",
    persistAuthorization: false,
  });
})();
