// Vite writes small files into the code as data: addresses, which a content security policy refuses.
export default { build: { assetsInlineLimit: 0 } };
