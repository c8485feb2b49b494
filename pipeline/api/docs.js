// validatorUrl: null, or the viewer would ask a host of its makers about the document.
SwaggerUIBundle({ url: "/openapi.json", dom_id: "#viewer", deepLinking: true, tryItOutEnabled: true, validatorUrl: null });
