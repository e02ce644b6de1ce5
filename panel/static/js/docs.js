// Swagger UI over the panel's own OpenAPI description.
(() => {
  "use strict";
  const root = document.documentElement;
  const dress = () => root.classList.toggle("dark-mode", root.dataset.bsTheme === "dark"); // Swagger UI's own name for it
  dress();
  new MutationObserver(dress).observe(root, { attributeFilter: ["data-bs-theme"] });
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
