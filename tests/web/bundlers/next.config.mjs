// A site of files alone, in out/.
export default { output: "export" };
